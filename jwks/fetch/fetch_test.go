package fetch

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for value, want := range map[string]time.Duration{
			now.Add(time.Hour).UTC().Format(http.TimeFormat): time.Hour, now.Add(-time.Hour).UTC().Format(http.TimeFormat): 0,
			"7": 7 * time.Second, "-7": 0, "1.5": 0, "soon": 0, "": 0, "99999999999": 0,
		} {
			if got := retryAfter(value); got != want {
				t.Errorf("Retry-After %s: got %s, want %s", value, got, want)
			}
		}
	})
}

func TestPermitted(t *testing.T) {
	for raw, want := range map[string]bool{
		"https://idp.example/jwks": true, "http://127.0.0.1:1/x": true, "http://localhost/x": true,
		"http://idp.example/jwks": false, "https://user@idp.example/": false, "https://idp.example/#a": false,
		"ftp://idp.example/": false, "https:///x": false, "://": false, "": false,
	} {
		if u, err := (Options{}).Permitted(raw); (err == nil) != want {
			t.Errorf("%q: got %v and error %v, want it permitted: %t", raw, u, err, want)
		}
	}
	if _, err := (Options{AllowHTTP: true}).Permitted("http://idp.example/jwks"); err != nil {
		t.Errorf("http with AllowHTTP: got error %v, want none", err)
	}
}
