package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slog writes a duration into JSON as a bare number of nanoseconds. An
// "after":59255000000 tells nobody that it means a minute.
func TestLoggedDurationsHaveAUnit(t *testing.T) {
	for format, want := range map[string][]string{
		"json": {`"after":"59.255s"`, `"part":{"took":"1.5ms"}`, `"entries":3`},
		"text": {"after=59.255s", "part.took=1.5ms", "entries=3"},
	} {
		var b bytes.Buffer
		NewLogger(format, slog.LevelInfo, &b).With("after", 59255*time.Millisecond).
			Info("replica disconnected", slog.Group("part", "took", 1500*time.Microsecond), "entries", 3)
		for _, w := range want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("%s: wanted %s in the line, got %s", format, w, &b)
			}
		}
	}
}

func TestReadyIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		logger := NewLogger("json", slog.LevelInfo, &b)
		var isReady atomic.Bool
		done := make(chan struct{})
		ready := func() Readiness {
			if isReady.Load() {
				return Readiness{Notes: []string{"stale"}}
			}
			return Readiness{Missing: []string{"keys"}}
		}
		go func() { logReady(t.Context(), logger, ready); close(done) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		if b.Len() > 0 {
			t.Errorf("with keys missing: wanted no line, got %s", &b)
		}
		isReady.Store(true)
		<-done
		if strings.Count(b.String(), `"msg":"ready"`) != 1 {
			t.Errorf("with nothing missing: wanted one line ready, got %s", &b)
		}

		b.Reset()
		ended, end := context.WithCancel(t.Context())
		isReady.Store(false)
		end()
		if logReady(ended, logger, ready); b.Len() > 0 {
			t.Errorf("a process that ends unready: wanted no line, got %s", &b)
		}
	})
}
