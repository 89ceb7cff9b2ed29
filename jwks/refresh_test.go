package jwks

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRefreshInTheBackground(t *testing.T) {
	o := originOf(document(kid("a")))
	bubble(t, o, func(t *testing.T, _ *Keys) {
		time.Sleep(24 * time.Hour)
		asked := o.asked()
		pauses := map[time.Duration]bool{}
		for i := 1; i < len(asked); i++ {
			pause := asked[i].Sub(asked[i-1])
			if pause < defaultRefreshInterval*8/10 || pause > defaultRefreshInterval {
				t.Errorf("a pause of %s, want %s to %s", pause, defaultRefreshInterval*8/10, defaultRefreshInterval)
			}
			pauses[pause] = true
		}
		if len(asked) < 288 || len(pauses) < len(asked)/2 {
			t.Errorf("%d fetches in a day with %d different pauses, want at least 288, half of them different", len(asked), len(pauses))
		}
	})
}

// A failed fetch is retried soon, then less and less often, and never more often
// than min_refresh_interval allows.
func TestRetries(t *testing.T) {
	o := originOf(document(kid("a")))
	bubble(t, o, func(t *testing.T, k *Keys) {
		o.set("", answer{err: errDown})
		time.Sleep(time.Hour)
		asked := o.asked()
		for i := 2; i < len(asked); i++ {
			pause := asked[i].Sub(asked[i-1])
			if pause < every || pause > defaultRefreshInterval*11/10 {
				t.Errorf("a pause of %s, want %s to %s", pause, every, defaultRefreshInterval*11/10)
			}
			if i == 2 && pause > 2*every {
				t.Errorf("the first retry came after %s, want at most %s", pause, 2*every)
			}
		}
		if n := len(asked); n < 12 || n > 25 {
			t.Errorf("%d fetches in an hour, want 12 to 25", n)
		}
		o.publish(kid("b"))
		time.Sleep(defaultRefreshInterval * 11 / 10)
		wantFound(t, k, "b", "EdDSA", 1, nil)
	})
}

// A key that the issuer removed stops working with the next refresh, and not
// before.
func TestRemovedKey(t *testing.T) {
	o := originOf(document(kid("a"), kid("b")))
	bubble(t, o, func(t *testing.T, k *Keys) {
		o.publish(kid("b"))
		wantFound(t, k, "a", "EdDSA", 1, nil)
		time.Sleep(defaultRefreshInterval)
		synctest.Wait()
		wantFound(t, k, "a", "EdDSA", 0, ErrUnknownKey)
		wantFound(t, k, "b", "EdDSA", 1, nil)
		o.publish(kid("a"), kid("b")) // the key comes back
		time.Sleep(defaultRefreshInterval)
		wantFound(t, k, "a", "EdDSA", 1, nil)
	})
}

func TestMaxStale(t *testing.T) {
	const stale = 20 * time.Minute
	o := originOf(document(kid("a")))
	opts := o.options()
	opts.MaxStale = stale
	bubbleWith(t, opts, func(t *testing.T, k *Keys) {
		time.Sleep(2 * stale) // refreshed all the time
		wantFound(t, k, "a", "EdDSA", 1, nil)
		o.set("", answer{err: errDown})
		time.Sleep(stale - defaultRefreshInterval - time.Second)
		wantFound(t, k, "a", "EdDSA", 1, nil)
		time.Sleep(defaultRefreshInterval + 2*time.Second)
		wantFound(t, k, "a", "EdDSA", 0, ErrUnavailable)
		if st := k.Status(); !st.Expired || st.Usable() || st.Keys != 1 {
			t.Errorf("beyond max_stale: got status %+v, want 1 key, expired and not usable", st)
		}
		o.publish(kid("a"))
		time.Sleep(every + time.Second) // the request above wanted a fetch
		wantFound(t, k, "a", "EdDSA", 1, nil)
		if st := k.Status(); st.Expired || !st.Usable() {
			t.Errorf("after the issuer recovered: got status %+v, want it usable", st)
		}
	})
}

// The keys of an issuer that answers do not expire, also if max_stale is shorter
// than the other intervals. Those of an issuer that does not answer do.
func TestMaxStaleBelowTheRefreshInterval(t *testing.T) {
	o := originOf(document(kid("a")))
	opts := o.options()
	opts.MaxStale = time.Second
	bubbleWith(t, opts, func(t *testing.T, k *Keys) {
		for range 1000 {
			wantFound(t, k, "a", "EdDSA", 1, nil)
			time.Sleep(77 * time.Millisecond)
		}
		o.set("", answer{err: errDown})
		time.Sleep(2 * time.Second)
		wantFound(t, k, "a", "EdDSA", 0, ErrUnavailable)
	})
}

// min_refresh_interval bounds fetches for unknown kids and retries. It does not
// lengthen refresh_interval.
func TestRefreshIntervalBelowTheShortest(t *testing.T) {
	o := originOf(document(kid("a")))
	opts := o.options()
	opts.RefreshInterval = time.Second
	bubbleWith(t, opts, func(t *testing.T, k *Keys) {
		o.publish(kid("b"))
		time.Sleep(time.Second)
		wantFound(t, k, "a", "EdDSA", 0, ErrUnknownKey)
		wantFound(t, k, "b", "EdDSA", 1, nil)
		time.Sleep(time.Minute)
		if n := len(o.asked()); n < 60 || n > 80 {
			t.Errorf("%d fetches in a minute, want 60 to 80", n)
		}
	})
}

// Without max_stale the last good keys are used for ever.
func TestNoMaxStale(t *testing.T) {
	o := originOf(document(kid("a")))
	bubble(t, o, func(t *testing.T, k *Keys) {
		o.set("", answer{err: errDown})
		time.Sleep(30 * 24 * time.Hour)
		wantFound(t, k, "a", "EdDSA", 1, nil)
	})
}

// Close ends a fetch under way and releases the requests that wait.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := originOf("")
		o.set("", answer{delay: time.Hour})
		k := must(Open(o.options()))
		synctest.Wait()
		begun := time.Now()
		waiting := make(chan error)
		go func() {
			_, err := k.Find(background, "a", "EdDSA")
			waiting <- err
		}()
		synctest.Wait()
		k.Close()
		if err := <-waiting; !errors.Is(err, ErrUnavailable) {
			t.Errorf("the request that waited: got error %v, want %v", err, ErrUnavailable)
		}
		if _, err := k.Find(background, "a", "EdDSA"); !errors.Is(err, ErrUnavailable) {
			t.Errorf("Find after Close: got error %v, want %v", err, ErrUnavailable)
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("Close took %s, want no time", took)
		}
		if st := k.Status(); st.LastError != "" {
			t.Errorf("after Close: got status %+v, want no error", st)
		}
	})
}

// Requests of an old configuration may still use keys that were closed.
func TestKeysAfterClose(t *testing.T) {
	o := originOf(document(kid("a")))
	synctest.Test(t, func(t *testing.T) {
		k := must(Open(o.options()))
		synctest.Wait()
		k.Close()
		wantFound(t, k, "a", "EdDSA", 1, nil)
		begun := time.Now()
		wantFound(t, k, "b", "EdDSA", 0, ErrUnknownKey)
		if took := time.Since(begun); took != 0 {
			t.Errorf("a request waited %s after Close, want no wait", took)
		}
	})
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jwks.json")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(document(kid("a")))
	bubbleWith(t, Options{Issuer: idp, File: path, Logger: quiet}, func(t *testing.T, k *Keys) {
		wantFound(t, k, "a", "EdDSA", 1, nil)
		write(document(kid("b"))) // read at once for an unknown kid
		wantFound(t, k, "b", "EdDSA", 1, nil)
		wantFound(t, k, "a", "EdDSA", 0, ErrUnknownKey)
		write(document(kid("c"))) // read within the interval for a kid that is gone
		time.Sleep(every + time.Second)
		wantFound(t, k, "b", "EdDSA", 0, ErrUnknownKey)
		wantFound(t, k, "c", "EdDSA", 1, nil)
		for _, broken := range []string{"", "{}", document(kid("d"))[:20]} {
			write(broken)
			time.Sleep(time.Minute)
			wantFound(t, k, "c", "EdDSA", 1, nil)
			if st := k.Status(); st.LastError == "" {
				t.Errorf("a file with %q: got status %+v, want an error", broken, st)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		wantFound(t, k, "c", "EdDSA", 1, nil)
	})
}

// The error of a refresh is short for every answer of an issuer.
func TestErrorsAreShort(t *testing.T) {
	long := strings.Repeat("\u00e9", 100_000)
	for _, body := range []string{
		`{"issuer":"https://` + long + `/","jwks_uri":"https://idp.example/"}`,
		`{"` + long + `":1,"` + long + `":2}`,
		`{"issuer":"https://idp.example/","jwks_uri":"` + long + `"}`,
	} {
		opts := originOf(body).options()
		opts.URI, opts.Discovery = "", true
		bubbleWith(t, opts, func(t *testing.T, k *Keys) {
			if st := k.Status(); st.LastError == "" || len(st.LastError) > 600 {
				t.Errorf("a document of %d bytes: got an error of %d bytes, want 1 to 600", len(body), len(st.LastError))
			}
		})
	}
}

// Without any keys the pause does not grow, because a replica that is not ready
// gets no request that could ask for a fetch. The log claims no keys.
func TestRetriesWithoutKeys(t *testing.T) {
	o := originOf("")
	o.set("", answer{err: errDown})
	var log bytes.Buffer
	opts := o.options()
	opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	bubbleWith(t, opts, func(t *testing.T, k *Keys) {
		time.Sleep(time.Hour)
		asked := o.asked()
		for i := 1; i < len(asked); i++ {
			if pause := asked[i].Sub(asked[i-1]); pause != every {
				t.Fatalf("fetch %d came after %s, want %s", i, pause, every)
			}
		}
		o.publish(kid("a"))
		time.Sleep(every)
		synctest.Wait()
		if st := k.Status(); !st.Usable() {
			t.Errorf("%s after the issuer came back: got status %+v, want usable keys", every, st)
		}
	})
	if text := log.String(); strings.Contains(text, "last good") || !strings.Contains(text, "there are none yet") {
		t.Errorf("got log %.300s, want one that says there are no keys", text)
	}
}

// Retry-After is honoured, at most for the refresh interval, also by requests
// with unknown kids.
func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		value string
		pause time.Duration
	}{
		{"60", time.Minute},
		{"86400", defaultRefreshInterval},
		{"0", every}, {"-5", every}, {"soon", every}, {"", every},
	} {
		o := originOf("")
		o.set("", answer{status: http.StatusTooManyRequests, retryAfter: c.value})
		bubble(t, o, func(t *testing.T, k *Keys) {
			for len(o.asked()) < 3 {
				wantFound(t, k, "a", "EdDSA", 0, ErrUnavailable)
				time.Sleep(time.Second)
			}
			asked := o.asked()
			if pause := asked[2].Sub(asked[1]); pause < c.pause || pause >= c.pause+time.Second {
				t.Errorf("Retry-After %q: the next fetch came after %s, want %s", c.value, pause, c.pause)
			}
		})
	}
}

// A denial states the known facts about the key, and nothing more.
func TestReasonsOfDenials(t *testing.T) {
	o := originOf("")
	o.set("", answer{status: 503})
	bubble(t, o, func(t *testing.T, k *Keys) {
		wantReason(t, k, "a", "no keys of the issuer are available: https://idp.example/jwks answered 503")
		o.publish(kid("b"), jwk(rsaKey().Public(), map[string]any{"kid": "rsa"}))
		time.Sleep(every)
		synctest.Wait()
		wantReason(t, k, "a", "the issuer has no such key: no key that was fetched has this kid")
		wantReason(t, k, "rsa", "the issuer has no such key: the key with this kid is for another alg")
		o.set("", answer{err: errDown})
		time.Sleep(defaultRefreshInterval)
		synctest.Wait()
		wantReason(t, k, "a", "the issuer has no such key: no key that was fetched has this kid; the last refresh of the keys failed, so the key may be newer")
	})
}

func wantReason(t *testing.T, k *Keys, kid, want string) {
	t.Helper()
	if _, err := k.Find(background, kid, "EdDSA"); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Find(%q): got error %v, want %s", kid, err, want)
	}
}
