package linelimit

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// count returns the lines in text, and how many more its summaries stand for.
func count(t *testing.T, text string) (lines, suppressed int) {
	t.Helper()
	for l := range strings.Lines(text) {
		var m struct {
			Msg        string
			Suppressed int
		}
		if err := json.Unmarshal([]byte(l), &m); err != nil || m.Msg != "login failed" {
			t.Fatalf("got the line %s, want one with the message login failed", l)
		}
		if suppressed += m.Suppressed; m.Suppressed == 0 {
			lines++
		}
	}
	return lines, suppressed
}

func TestLimit(t *testing.T) {
	for _, c := range []struct {
		name              string
		log               func(*Limit)
		lines, suppressed int
	}{
		{"nothing", func(*Limit) {}, 0, 0},
		{"at the limit", func(l *Limit) { times(10, l) }, 10, 0},
		{"above the limit", func(l *Limit) { times(25, l) }, 10, 15},
		{"in two seconds", func(l *Limit) { times(12, l); time.Sleep(time.Second + time.Millisecond); times(12, l) }, 20, 4},
		{"a line a second", func(l *Limit) {
			for range 30 {
				times(1, l)
				time.Sleep(time.Second + time.Millisecond)
			}
		}, 30, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			l := New(slog.New(slog.NewJSONHandler(&out, nil)), slog.LevelInfo, "login failed", 10)
			c.log(l)
			l.Close()
			if lines, suppressed := count(t, out.String()); lines != c.lines || suppressed != c.suppressed {
				t.Errorf("%s: %d lines and %d suppressed, want %d and %d", c.name, lines, suppressed, c.lines, c.suppressed)
			}
		})
	}
}

func times(n int, l *Limit) {
	for range n {
		l.Log("from", "192.0.2.1")
	}
}

// The number of suppressed lines comes by itself, a second after the first line.
func TestSummaryComesWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := New(slog.New(slog.NewJSONHandler(&out, nil)), slog.LevelInfo, "login failed", 1)
		times(8, l)
		time.Sleep(window)
		synctest.Wait()
		if lines, suppressed := count(t, out.String()); lines != 1 || suppressed != 7 {
			t.Errorf("after a second: %d lines and %d suppressed, want 1 and 7", lines, suppressed)
		}
	})
}

func TestConcurrentLinesLoseNoCount(t *testing.T) {
	var mu sync.Mutex
	var out bytes.Buffer
	l := New(slog.New(slog.NewJSONHandler(locked{&mu, &out}, nil)), slog.LevelInfo, "login failed", 10)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() { times(1000, l) })
	}
	callers.Wait()
	l.Close()
	mu.Lock()
	defer mu.Unlock()
	if lines, suppressed := count(t, out.String()); lines+suppressed != 8000 {
		t.Errorf("%d lines and %d suppressed, want 8000 together", lines, suppressed)
	}
}

type locked struct {
	mu *sync.Mutex
	w  *bytes.Buffer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
