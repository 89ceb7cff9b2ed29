package jwks

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// keep fetches the keys of an issuer once and returns the file that keeps them.
func keep(t *testing.T, o Options) (file string) {
	t.Helper()
	k := must(Open(o))
	synctest.Wait()
	k.Close()
	files := must(filepath.Glob(filepath.Join(o.Dir, "*")))
	if len(files) != 1 {
		t.Fatalf("files in %s: got %q, want one", o.Dir, files)
	}
	return files[0]
}

func TestStartWithoutTheIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := originOf(document(kid("a")))
		opts := o.options()
		opts.Dir = filepath.Join(t.TempDir(), "made", "for us")
		file := keep(t, opts)
		if mode := must(os.Stat(file)).Mode().Perm(); mode != 0o600 {
			t.Errorf("got mode %o, want 600", mode)
		}
		fetched := time.Now()
		time.Sleep(time.Hour)
		o.set("", answer{err: errDown})
		k := must(Open(opts))
		defer k.Close()
		wantFound(t, k, "a", "EdDSA", 1, nil) // before the first fetch has ended
		synctest.Wait()
		st := k.Status()
		if !st.FromDisk || !st.LastSuccess.Equal(fetched) || st.LastError == "" || !st.Usable() {
			t.Errorf("without the issuer: got status %+v, want usable keys from disk of %s, and an error", st, fetched)
		}
		o.publish(kid("b"))
		time.Sleep(2 * every)
		wantFound(t, k, "b", "EdDSA", 1, nil)
		wantFound(t, k, "a", "EdDSA", 0, ErrUnknownKey)
		if st := k.Status(); st.FromDisk || st.LastError != "" {
			t.Errorf("after the issuer answered: got status %+v, want no keys from disk and no error", st)
		}
	})
}

// Keys keep their age over a restart, so max_stale applies to it.
func TestKeptKeysExpire(t *testing.T) {
	for _, c := range []struct {
		age time.Duration
		err error
	}{{30 * time.Minute, nil}, {2 * time.Hour, ErrUnavailable}} {
		synctest.Test(t, func(t *testing.T) {
			o := originOf(document(kid("a")))
			opts := o.options()
			opts.Dir, opts.MaxStale = t.TempDir(), time.Hour
			keep(t, opts)
			time.Sleep(c.age)
			o.set("", answer{err: errDown})
			k := must(Open(opts))
			defer k.Close()
			synctest.Wait()
			if _, err := k.Find(background, "a", "EdDSA"); !errors.Is(err, c.err) {
				t.Errorf("keys %s old: got error %v, want %v", c.age, err, c.err)
			}
		})
	}
}

// A file that is dated in the future counts as written now.
func TestKeptInTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := originOf(document(kid("a")))
		opts := o.options()
		opts.Dir, opts.MaxStale = t.TempDir(), time.Hour
		s := newSaved(opts)
		if err := s.write([]byte(document(kid("a"))), time.Now().Add(100*time.Hour)); err != nil {
			t.Fatal(err)
		}
		o.set("", answer{err: errDown})
		k := must(Open(opts))
		defer k.Close()
		wantFound(t, k, "a", "EdDSA", 1, nil)
		time.Sleep(61 * time.Minute)
		wantFound(t, k, "a", "EdDSA", 0, ErrUnavailable)
	})
}

// A file that is damaged, or of another issuer, is renamed and logged.
func TestDamagedFile(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(text []byte, o *Options) []byte
		aside  bool
	}{
		{"empty", func([]byte, *Options) []byte { return nil }, true},
		{"garbage", func([]byte, *Options) []byte { return []byte("\x00\xff garbage") }, true},
		{"cut off", func(text []byte, _ *Options) []byte { return text[:len(text)-5] }, true},
		{"a byte changed", func(text []byte, _ *Options) []byte { return bytes.Replace(text, []byte("OKP"), []byte("OKQ"), 1) }, true},
		{"another version", func(text []byte, _ *Options) []byte {
			return bytes.Replace(text, []byte(`"version":1`), []byte(`"version":2`), 1)
		}, true},
		{"an unknown member", func(text []byte, _ *Options) []byte {
			return bytes.Replace(text, []byte(`{"version"`), []byte(`{"x":1,"version"`), 1)
		}, true},
		{"too large", func(text []byte, _ *Options) []byte { return append(text, make([]byte, 2*maxDocument)...) }, true},
		{"of another issuer", func([]byte, *Options) []byte {
			var b bytes.Buffer
			dir := t.TempDir()
			s := newSaved(Options{Issuer: "https://evil.example/", URI: "https://idp.example/jwks", Dir: dir})
			if err := s.write([]byte(document(kid("evil"))), time.Now()); err != nil {
				t.Fatal(err)
			}
			b.Write(must(os.ReadFile(s.path)))
			return b.Bytes()
		}, true},
		{"from another source", func(text []byte, o *Options) []byte {
			o.URI = "https://idp.example/elsewhere"
			return text
		}, false},
		{"of an algorithm that is not listed any more", func(text []byte, o *Options) []byte {
			o.Algorithms = []string{"RS256"}
			return text
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := originOf(document(kid("a")))
				opts := o.options()
				opts.Dir = t.TempDir()
				file := keep(t, opts)
				if err := os.WriteFile(file, c.damage(must(os.ReadFile(file)), &opts), 0o600); err != nil {
					t.Fatal(err)
				}
				o.set("", answer{err: errDown})
				var log bytes.Buffer
				opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
				k := must(Open(opts))
				synctest.Wait()
				for _, id := range []string{"a", "evil"} {
					wantFound(t, k, id, "EdDSA", 0, ErrUnavailable)
				}
				k.Close()
				if _, err := os.Stat(file + ".damaged"); (err == nil) != c.aside {
					t.Errorf("%s.damaged: got error %v, want the file: %v", file, err, c.aside)
				}
				if !strings.Contains(log.String(), "not used") {
					t.Errorf("logged %s, want a line with %q", log.String(), "not used")
				}
				o.publish(kid("a")) // a good refresh is kept again
				opts.Algorithms = nil
				k = must(Open(opts))
				defer k.Close()
				synctest.Wait()
				if _, _, err := newSaved(opts).read(); err != nil {
					t.Errorf("reading the saved key set: got %v, want nil", err)
				}
				wantFound(t, k, "a", "EdDSA", 1, nil)
			})
		})
	}
}

// Each issuer has a file of its own, inside the folder.
func TestOneFileForEachIssuer(t *testing.T) {
	dir := t.TempDir()
	names := map[string]bool{}
	for _, issuer := range []string{"https://idp.example/", "https://idp.example", "https://IDP.example/", "../../etc/passwd", strings.Repeat("x", 5000)} {
		path := newSaved(Options{Issuer: issuer, URI: "https://idp.example/jwks", Dir: dir}).path
		if filepath.Dir(path) != dir || names[path] {
			t.Errorf("issuer %.40s: got file %s, want a new one in %s", issuer, path, dir)
		}
		names[path] = true
	}
}

// A failed write to disk does not affect requests.
func TestNothingCanBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := originOf(document(kid("a")))
		opts := o.options()
		opts.Dir = filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(opts.Dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
		k := must(Open(opts))
		synctest.Wait()
		wantFound(t, k, "a", "EdDSA", 1, nil)
		k.Close()
		if want := "could not be written to disk"; !strings.Contains(log.String(), want) {
			t.Errorf("logged %s, want a line with %q", log.String(), want)
		}
	})
}
