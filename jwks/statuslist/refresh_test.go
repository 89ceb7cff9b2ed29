package statuslist

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// bubble runs a test with a clock of its own. The lists have the key a, and are
// those that p serves in folder.
func bubble(t *testing.T, change func(*Options), test func(t *testing.T, p *provider, l *Lists)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		keys, _ := keysOf(t, "a")
		defer keys.Close()
		synctest.Wait() // the keys are there
		o := p.options(keys)
		if change != nil {
			change(&o)
		}
		l := must(Open(o))
		defer l.Close()
		test(t, p, l)
	})
}

// named makes the lists follow uri, and waits for its first fetch.
func named(t *testing.T, l *Lists, uri string) {
	t.Helper()
	wantStatus(t, l, uri, 0, Invalid, ErrUnavailable)
	synctest.Wait()
}

// The first token that names a list causes its fetch and does not wait for it.
func TestFirstSight(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *provider, l *Lists) {
		p.slow = 3 * time.Second
		p.says(first, token(first, []byte{0b10}, nil))
		begun := time.Now()
		for range 100 {
			wantStatus(t, l, first, 1, Invalid, ErrUnavailable)
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("100 look-ups took %v of the fetch, want none of it", took)
		}
		time.Sleep(2 * time.Second)
		wantStatus(t, l, first, 1, Invalid, ErrUnavailable)
		time.Sleep(time.Second)
		synctest.Wait()
		wantStatus(t, l, first, 0, Valid, nil)
		wantStatus(t, l, first, 1, Invalid, nil)
		wantStatus(t, l, first, 8, Invalid, ErrOutOfRange)
		if n := len(p.times(first)); n != 1 {
			t.Errorf("got %d fetches, want 1", n)
		}
	})
}

func TestOnlyAllowedPlacesAreFetched(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *provider, l *Lists) {
		for _, uri := range []string{
			"https://idp.example/lists", "https://idp.example/lists2/1", "https://idp.example/", "http://idp.example/lists/1", "https://IDP.example/lists/1",
			"https://idp.example:443/lists/1", "https://idp.example@evil.example/lists/1", "https://evil.example/https://idp.example/lists/1",
			folder + "../admin", folder + "a/../../admin", folder + "%2e%2e/admin", folder + "%2E./admin", folder + "..;a/admin", folder + `..\admin`, folder + "..%5cadmin", folder + "./1",
			folder + "1#a", folder + "1 2", folder + "1\n", folder + "%zz", folder + "é", folder + strings.Repeat("1", 2048), "",
		} {
			wantStatus(t, l, uri, 0, Invalid, ErrNotAllowed)
		}
		synctest.Wait()
		if len(p.asked) > 0 {
			t.Errorf("got requests for %v, want none", p.asked)
		}
	})
}

// A list that is configured exactly is fetched at the start.
func TestExactListsAreFetchedAtTheStart(t *testing.T) {
	p := newProvider()
	p.makes(first, func() string { return token(first, []byte{1}, nil) })
	bubble(t, func(o *Options) {
		o.URIs, o.Requests.Transport = []string{first}, p
	}, func(t *testing.T, _ *provider, l *Lists) {
		synctest.Wait()
		if !l.Settled() {
			t.Error("after the first fetch: got unsettled lists, want settled ones")
		}
		wantStatus(t, l, first, 0, Invalid, nil)
		wantStatus(t, l, first+"0", 0, Invalid, ErrNotAllowed)
		wantStatus(t, l, folder, 0, Invalid, ErrNotAllowed)
	})
}

// The ttl says when a list is fetched again, within the bounds, whatever the HTTP
// headers say.
func TestTimeToLive(t *testing.T) {
	for _, c := range []struct {
		ttl, exp any // seconds
		want     time.Duration
	}{
		{60, nil, time.Minute}, {nil, nil, DefaultMaxRefresh}, {1, nil, DefaultMinRefresh}, {0.001, nil, DefaultMinRefresh}, {43200, nil, DefaultMaxRefresh}, {1e300, nil, DefaultMaxRefresh},
		{nil, 100, 90 * time.Second}, {200, 100, 90 * time.Second}, {30, 100, 30 * time.Second}, {nil, 5, DefaultMinRefresh}, {60.5, nil, 60500 * time.Millisecond},
	} {
		bubble(t, nil, func(t *testing.T, p *provider, l *Lists) {
			p.heads("Cache-Control", "max-age=86400, immutable")
			p.heads("Expires", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
			p.makes(first, func() string {
				changes := map[string]any{"ttl": c.ttl}
				if c.exp != nil {
					changes["exp"] = time.Now().Unix() + int64(c.exp.(int))
				}
				return token(first, []byte{0}, changes)
			})
			named(t, l, first)
			time.Sleep(4 * c.want)
			at := p.times(first)
			if len(at) < 4 {
				t.Fatalf("ttl %v, exp %v: got %d fetches within %v, want at least 4", c.ttl, c.exp, len(at), 4*c.want)
			}
			for i := range at[1:] {
				if pause := at[i+1].Sub(at[i]); pause > c.want || pause < c.want*9/10-time.Second { // exp has whole seconds
					t.Errorf("ttl %v, exp %v: got a pause of %v, want %v or up to a tenth less", c.ttl, c.exp, pause, c.want)
				}
			}
		})
	}
}

// A failed fetch keeps the last good list until its exp, or until MaxAge, and not
// a moment longer.
func TestLastGoodList(t *testing.T) {
	for _, c := range []struct {
		exp   any // seconds
		until time.Duration
	}{{nil, DefaultMaxAge}, {3600, time.Hour}, {1e6, DefaultMaxAge}} {
		bubble(t, nil, func(t *testing.T, p *provider, l *Lists) {
			changes := map[string]any{}
			if c.exp != nil {
				changes["exp"] = time.Now().Add(c.until).Unix()
				if c.exp == 1e6 {
					changes["exp"] = time.Now().Unix() + 1e6
				}
			}
			begun := time.Now()
			p.says(first, token(first, []byte{2}, changes))
			named(t, l, first)
			p.answer(first, http.StatusServiceUnavailable, "")
			time.Sleep(c.until - time.Millisecond - time.Since(begun))
			wantStatus(t, l, first, 0, Valid, nil)
			wantStatus(t, l, first, 1, Invalid, nil)
			if s := l.summary(time.Now()); s.failing != 1 || s.usable != 1 || s.oldest != float64(begun.Unix()) {
				t.Errorf("exp %v: got %+v, want one usable and failing list of %d", c.exp, s, begun.Unix())
			}
			time.Sleep(time.Millisecond)
			wantStatus(t, l, first, 0, Invalid, ErrUnavailable)
			p.makes(first, func() string { return token(first, []byte{0}, nil) })
			time.Sleep(2 * DefaultMinRefresh)
			wantStatus(t, l, first, 1, Valid, nil)
		})
	}
}

// Without a usable list a fetch is tried again soon, and with one seldom.
func TestPausesAfterFailures(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *provider, l *Lists) {
		named(t, l, first)
		time.Sleep(time.Minute)
		at := p.times(first)
		if n := len(at); n < 7 || n > 12 {
			t.Errorf("without a list: got %d fetches in a minute, want from 7 to 12", n)
		}
		for i := range at[1:] {
			if pause := at[i+1].Sub(at[i]); pause < 900*time.Millisecond || pause > DefaultMinRefresh {
				t.Errorf("without a list: got a pause of %v, want from 0.9s to %v", pause, DefaultMinRefresh)
			}
		}
		p.makes(first, func() string { return token(first, []byte{0}, map[string]any{"ttl": 10}) })
		time.Sleep(DefaultMinRefresh)
		wantStatus(t, l, first, 0, Valid, nil)
		p.answer(first, http.StatusInternalServerError, "")
		n := len(p.times(first))
		time.Sleep(30 * time.Minute)
		if more := len(p.times(first)) - n; more < 6 || more > 14 {
			t.Errorf("with a list: got %d fetches in half an hour, want from 6 to 14", more)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *provider, l *Lists) {
		p.heads("Retry-After", "120")
		p.answer(first, http.StatusTooManyRequests, "")
		named(t, l, first)
		time.Sleep(119 * time.Second)
		if n := len(p.times(first)); n != 1 {
			t.Errorf("got %d fetches within two minutes, want 1", n)
		}
		p.heads("Retry-After", "99999999")
		time.Sleep(2*DefaultMaxRefresh + time.Minute)
		if n := len(p.times(first)); n < 3 {
			t.Errorf("got %d fetches, want at least 3: a Retry-After counts for at most %v", n, DefaultMaxRefresh)
		}
	})
}

// A cache on the way that serves an old list cannot bring a revoked token back.
func TestOlderListIsRefused(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *provider, l *Lists) {
		old := token(first, []byte{0}, map[string]any{"ttl": 10})
		time.Sleep(time.Minute)
		p.says(first, token(first, []byte{1}, map[string]any{"ttl": 10}))
		named(t, l, first)
		wantStatus(t, l, first, 0, Invalid, nil)
		p.says(first, old)
		time.Sleep(10 * time.Minute)
		wantStatus(t, l, first, 0, Invalid, nil)
		if s := l.summary(time.Now()); s.failing != 1 {
			t.Errorf("with an old list: got %+v, want it to be failing", s)
		}
		p.makes(first, func() string { return token(first, []byte{2}, nil) })
		time.Sleep(2 * DefaultMaxRefresh)
		wantStatus(t, l, first, 0, Valid, nil)
	})
}

// A list under a new key is believed as soon as the issuer publishes the key, and
// one under a key that is gone is not.
func TestKeysOfTheLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider()
		keys, publish := keysOf(t, "a")
		defer keys.Close()
		synctest.Wait()
		l := must(Open(p.options(keys)))
		defer l.Close()
		by := func(kid string, status byte) {
			p.makes(first, func() string {
				return sign(kid, fmt.Sprintf(`{"alg":"EdDSA","kid":%q,"typ":"statuslist+jwt"}`, kid),
					fmt.Sprintf(`{"sub":%q,"iat":%d,"ttl":10,"status_list":{"bits":8,"lst":%q}}`, first, time.Now().Unix(), deflated([]byte{status})))
			})
		}
		by("b", 7)
		publish("b")
		named(t, l, first)
		time.Sleep(time.Second) // the issuer's keys are fetched for the unknown kid
		synctest.Wait()
		wantStatus(t, l, first, 0, 7, nil)
		by("a", 0)
		time.Sleep(time.Minute)
		wantStatus(t, l, first, 0, 7, nil)
		if s := l.summary(time.Now()); s.failing != 1 {
			t.Errorf("a list under a key that is gone: got %+v, want it to be failing", s)
		}
	})
}

// The number of lists is bounded. A list that no token names any more gives up its
// place, one that is in use does not, and neither does one that is configured.
func TestBoundOfLists(t *testing.T) {
	p := newProvider()
	for n := range 6 {
		uri := fmt.Sprint(folder, n)
		p.makes(uri, func() string { return token(uri, []byte{0}, nil) })
	}
	bubble(t, func(o *Options) {
		o.URIs, o.MaxLists, o.MaxRefresh, o.Requests.Transport = []string{folder, folder + "0"}, 3, time.Hour, p
	}, func(t *testing.T, _ *provider, l *Lists) {
		named(t, l, folder+"1")
		named(t, l, folder+"2")
		for range 10 {
			wantStatus(t, l, folder+"3", 0, Invalid, ErrUnavailable)
			synctest.Wait()
		}
		if refused := l.refused.Load(); refused != 10 || len(p.times(folder+"3")) > 0 {
			t.Errorf("a list above the bound: got %d refused and %d fetches, want 10 and none", refused, len(p.times(folder+"3")))
		}
		for range 12 {
			time.Sleep(time.Minute)
			wantStatus(t, l, folder+"2", 0, Valid, nil)
		}
		named(t, l, folder+"3")
		wantStatus(t, l, folder+"3", 0, Valid, nil)
		wantStatus(t, l, folder+"2", 0, Valid, nil)
		wantStatus(t, l, folder+"0", 0, Valid, nil)
		if s := l.summary(time.Now()); s.followed != 3 {
			t.Errorf("got %+v, want three lists", s)
		}
		n := len(p.times(folder + "1"))
		time.Sleep(26 * time.Hour)
		synctest.Wait()
		if more := len(p.times(folder+"1")) - n; more > 0 {
			t.Errorf("the list that gave up its place: got %d fetches more, want none", more)
		}
		if s := l.summary(time.Now()); s.followed != 1 {
			t.Errorf("after a day without tokens: got %+v, want the configured list alone", s)
		}
	})
}

// One list that hangs does not keep the others from being fetched, and a flood of
// lists makes few requests at a time.
func TestSlowListsAndManyLists(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *provider, l *Lists) {
		p.slow = time.Second
		for n := range 40 {
			uri := fmt.Sprint(folder, n)
			p.makes(uri, func() string { return token(uri, []byte{0}, nil) })
			wantStatus(t, l, uri, 0, Invalid, ErrUnavailable)
		}
		time.Sleep(12 * time.Second)
		for n := range 40 {
			wantStatus(t, l, fmt.Sprint(folder, n), 0, Valid, nil)
		}
		if p.most != maxFetches {
			t.Errorf("got %d fetches at once, want %d", p.most, maxFetches)
		}
	})
}

// Many requests look up at once while the lists change. The race detector has to
// find nothing, and each request sees the statuses change.
func TestLookupsWhileListsChange(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *provider, l *Lists) {
		const lists, lookups = 3, 50
		for n := range lists {
			uri := fmt.Sprint(folder, n)
			p.makes(uri, func() string {
				return token(uri, []byte{byte(time.Now().Unix() / 20 % 2)}, map[string]any{"ttl": 10})
			})
		}
		done := make(chan string)
		for worker := range 2 * lists {
			go func() {
				uri, seen := fmt.Sprint(folder, worker%lists), map[Status]int{}
				for range lookups {
					if s, err := status(l, uri, 0); err == nil {
						seen[s]++
					}
					time.Sleep(7 * time.Second)
				}
				done <- fmt.Sprint(uri, " ", seen[Valid] > lookups/4, seen[Invalid] > lookups/4, len(seen))
			}()
		}
		for range 2 * lists {
			if got := <-done; !strings.HasSuffix(got, " true true 2") {
				t.Errorf("got %s, want each of both statuses in more than a quarter of the look-ups, and no other", got)
			}
		}
	})
}

func TestFetchThatHangs(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *provider, l *Lists) {
		p.slow = time.Hour
		named(t, l, first)
		time.Sleep(fetchTimeout + time.Second)
		if s := l.summary(time.Now()); s.failing != 1 {
			t.Errorf("after %v: got %+v, want a failing list", fetchTimeout+time.Second, s)
		}
	}) // Close ends the fetch under way
}
