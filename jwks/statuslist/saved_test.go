package statuslist

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// kept runs two lives of lists with one folder. Between them the provider is down
// and change has changed the folder or the options.
func kept(t *testing.T, token func() string, between func(t *testing.T, dir string, o *Options), after func(t *testing.T, p *provider, l *Lists)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		keys, _ := keysOf(t, "a")
		defer keys.Close()
		synctest.Wait()
		o := p.options(keys)
		o.Dir = filepath.Join(t.TempDir(), "lists")
		p.makes(first, token)
		l := must(Open(o))
		named(t, l, first)
		if _, err := status(l, first, 0); err != nil {
			t.Fatalf("before the restart: got error %v, want a status", err)
		}
		l.Close()
		p.answer(first, http.StatusServiceUnavailable, "")
		if between != nil {
			between(t, o.Dir, &o)
		}
		l = must(Open(o))
		defer l.Close()
		synctest.Wait()
		after(t, p, l)
	})
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	return must(filepath.Glob(filepath.Join(dir, "*")))
}

func TestListsSurviveARestart(t *testing.T) {
	one := func() string { return token(first, []byte{0b10}, nil) }
	kept(t, one, func(t *testing.T, dir string, _ *Options) {
		if info, err := os.Stat(files(t, dir)[0]); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("got the file %v and error %v, want one of mode 0600", info, err)
		}
	}, func(t *testing.T, _ *provider, l *Lists) {
		wantStatus(t, l, first, 0, Valid, nil)
		wantStatus(t, l, first, 1, Invalid, nil)
	})
	kept(t, one, func(*testing.T, string, *Options) { time.Sleep(DefaultMaxAge - time.Second) }, func(t *testing.T, _ *provider, l *Lists) {
		wantStatus(t, l, first, 0, Valid, nil)
		time.Sleep(time.Second) // no longer than without the restart
		wantStatus(t, l, first, 0, Invalid, ErrUnavailable)
	})
	kept(t, func() string { return token(first, []byte{0}, map[string]any{"exp": time.Now().Unix() + 60}) }, func(*testing.T, string, *Options) { time.Sleep(time.Minute) }, func(t *testing.T, _ *provider, l *Lists) {
		wantStatus(t, l, first, 0, Invalid, ErrUnavailable)
	})
	// An older copy than the one on disk is refused after a restart too.
	kept(t, one, nil, func(t *testing.T, p *provider, l *Lists) {
		old := token(first, []byte{0}, map[string]any{"iat": time.Now().Unix() - 1})
		p.says(first, old)
		time.Sleep(DefaultMaxRefresh)
		wantStatus(t, l, first, 1, Invalid, nil)
	})
}

// A file that is damaged, forged, of another URI or not allowed any more gives no
// list, and cannot keep the lists from being opened.
func TestFilesThatAreNotUsed(t *testing.T) {
	one := func() string { return token(first, []byte{0}, nil) }
	rewrite := func(t *testing.T, dir string, change func(string) string) {
		path := files(t, dir)[0]
		if err := os.WriteFile(path, []byte(change(string(must(os.ReadFile(path))))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, between := range map[string]func(t *testing.T, dir string, o *Options){
		"empty": func(t *testing.T, dir string, _ *Options) { rewrite(t, dir, func(string) string { return "" }) },
		"cut": func(t *testing.T, dir string, _ *Options) {
			rewrite(t, dir, func(s string) string { return s[:len(s)-5] })
		},
		"forged": func(t *testing.T, dir string, _ *Options) {
			rewrite(t, dir, func(s string) string { line, rest, _ := strings.Cut(s, "\n"); return line + "\n" + tampered(rest) })
		},
		"another version": func(t *testing.T, dir string, _ *Options) {
			rewrite(t, dir, func(s string) string { return strings.Replace(s, `"version":1`, `"version":2`, 1) })
		},
		"another uri": func(t *testing.T, dir string, _ *Options) {
			rewrite(t, dir, func(s string) string { return strings.Replace(s, first, folder+"2", 1) })
		},
		"too large": func(t *testing.T, dir string, _ *Options) {
			rewrite(t, dir, func(s string) string { return s + strings.Repeat("x", 3<<20) })
		},
		"not allowed any more": func(t *testing.T, dir string, o *Options) {
			o.URIs = []string{folder + "other/"}
			must(Open(*o)).Close()
			if left := files(t, dir); len(left) > 0 {
				t.Errorf("got the files %v, want none", left)
			}
		},
		"another issuer": func(_ *testing.T, _ string, o *Options) { o.Issuer = "https://other.example/" },
	} {
		t.Run(name, func(t *testing.T) {
			kept(t, one, between, func(t *testing.T, _ *provider, l *Lists) {
				if got, err := status(l, first, 0); err == nil || got == Valid {
					t.Errorf("got status %d and error %v, want no list", got, err)
				}
			})
		})
	}
	kept(t, one, func(t *testing.T, dir string, _ *Options) { // a clock was wrong
		rewrite(t, dir, func(s string) string {
			return strings.Replace(s, `"fetched_at":"2000`, `"fetched_at":"2100`, 1)
		})
	}, func(t *testing.T, _ *provider, l *Lists) {
		wantStatus(t, l, first, 0, Valid, nil)
		time.Sleep(DefaultMaxAge)
		wantStatus(t, l, first, 0, Invalid, ErrUnavailable)
	})
}

// A list that is given up leaves no file, and one whose statuses do not change is
// written seldom.
func TestFilesAreFewAndSeldomWritten(t *testing.T) {
	dir := t.TempDir()
	bubble(t, func(o *Options) { o.Dir = dir }, func(t *testing.T, p *provider, l *Lists) {
		with := func(status byte) {
			p.makes(first, func() string { return token(first, []byte{status}, map[string]any{"ttl": 10}) })
		}
		with(0)
		named(t, l, first)
		path := files(t, dir)[0]
		writes, text := 0, ""
		for range 60 {
			time.Sleep(30 * time.Second)
			synctest.Wait()
			if now := string(must(os.ReadFile(path))); now != text {
				writes, text = writes+1, now
			}
		}
		if writes < 3 || writes > 5 {
			t.Errorf("got %d writes in half an hour, want from 3 to 5", writes)
		}
		with(1)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if string(must(os.ReadFile(path))) == text {
			t.Error("a changed status: got the old file, want it written at once")
		}
		p.answer(first, http.StatusNotFound, "")
		time.Sleep(26 * time.Hour)
		synctest.Wait()
		if left := files(t, dir); len(left) > 0 {
			t.Errorf("a list that no token names: got the files %v, want none", left)
		}
	})
}
