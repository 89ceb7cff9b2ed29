package config

import (
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "30s": 30 * time.Second, "1h30m": 90 * time.Minute, "-1h": -time.Hour, "1.5h": 90 * time.Minute,
		"0d": 0, "1d": 24 * time.Hour, "30d": 720 * time.Hour, "106751d": 106751 * 24 * time.Hour,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "d", "10", "1.5d", "-1d", "+1d", "1d12h", "1h30d", "1 d", "1D", "106752d", "99999999999999999999d", "1_0d", "0x1d"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %s, want an error", text, got)
		}
	}
}

// TestDaysInTheFiles holds that the durations of both files may be whole days.
func TestDaysInTheFiles(t *testing.T) {
	t.Chdir(folderOf(t))
	a, err := AuthzFrom(strings.NewReader(baseRevocation + "issuers: [{issuer: 'https://a/', discovery: true, audiences: [api], max_lifetime: 2d, leeway: 0d, max_stale: '7d'}]\n"))
	if err != nil {
		t.Fatalf("days in authz.yaml: got %v, want no fault", err)
	}
	if got := a.Issuers[0].MaxLifetime; got != 48*time.Hour {
		t.Errorf("max_lifetime: 2d is read as %s, want 48h", got)
	}
	c, err := ControlFrom(strings.NewReader(baseFeed + baseAdmin + "store: {dir: data, retention: 30d}\n"))
	if err != nil {
		t.Fatalf("days in control.yaml: got %v, want no fault", err)
	}
	if got := c.Store.Retention; got != 720*time.Hour {
		t.Errorf("retention: 30d is read as %s, want 720h", got)
	}
}
