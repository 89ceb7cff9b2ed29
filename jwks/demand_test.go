package jwks

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const every = defaultMinRefreshInterval

func TestFirstFetchIsWaitedFor(t *testing.T) {
	for _, c := range []struct {
		delay, wait time.Duration
		err         error
	}{
		{0, 0, nil},
		{300 * time.Millisecond, 300 * time.Millisecond, nil},
		{time.Second, patience, ErrUnavailable},
	} {
		synctest.Test(t, func(t *testing.T) {
			o := originOf("")
			o.set("", answer{body: document(kid("a")), delay: c.delay})
			k := must(Open(o.options()))
			defer k.Close()
			begun := time.Now()
			_, err := k.Find(background, "a", "EdDSA")
			if took := time.Since(begun); !errors.Is(err, c.err) || took != c.wait {
				t.Errorf("a first fetch of %s: got error %v after %s, want %v after %s", c.delay, err, took, c.err, c.wait)
			}
			time.Sleep(time.Second)
			wantFound(t, k, "a", "EdDSA", 1, nil)
		})
	}
}

// An issuer that does not answer delays requests for the first 500 ms of each
// fetch, also many requests. There is at most one fetch in each interval.
func TestIssuerThatDoesNotAnswer(t *testing.T) {
	o := originOf("")
	o.set("", answer{delay: time.Hour})
	bubble(t, o, func(t *testing.T, k *Keys) {
		var waited time.Duration
		var wg sync.WaitGroup
		var mu sync.Mutex
		begun := time.Now()
		for range 6000 { // ten minutes
			wg.Go(func() {
				at := time.Now()
				_, err := k.Find(background, "a", "EdDSA")
				took := time.Since(at)
				mu.Lock()
				defer mu.Unlock()
				waited = max(waited, took)
				asked := o.asked()
				if last := asked[len(asked)-1]; took > 0 && at.Sub(last) >= patience {
					t.Errorf("a request waited %s for a fetch that had been under way for %s, want no wait after %s", took, at.Sub(last), patience)
				}
				if !errors.Is(err, ErrUnavailable) {
					t.Errorf("got error %v, want %v", err, ErrUnavailable)
				}
			})
			time.Sleep(100 * time.Millisecond)
		}
		wg.Wait()
		if waited > patience {
			t.Errorf("a request waited %s, want at most %s", waited, patience)
		}
		if n, most := len(o.asked()), int(time.Since(begun)/every)+2; n > most || n < most/2 {
			t.Errorf("%d fetches in %s, want about %d", n, time.Since(begun), most)
		}
	})
}

// An issuer that refuses connections delays no request within the interval.
func TestIssuerThatIsDown(t *testing.T) {
	o := originOf("")
	o.set("", answer{err: errDown})
	bubble(t, o, func(t *testing.T, k *Keys) {
		begun := time.Now()
		for range 1000 {
			if _, err := k.Find(background, "a", "EdDSA"); !errors.Is(err, ErrUnavailable) {
				t.Fatal(err)
			}
		}
		if took, n := time.Since(begun), len(o.asked()); took != 0 || n != 2 {
			t.Errorf("a thousand requests took %s and %d fetches, want no time and 2", took, n)
		}
		o.publish(kid("a"))
		time.Sleep(every + time.Second)
		wantFound(t, k, "a", "EdDSA", 1, nil)
	})
}

func TestUnknownKidIsFetchedOnceForAll(t *testing.T) {
	o := originOf(document(kid("old")))
	bubble(t, o, func(t *testing.T, k *Keys) {
		o.set("", answer{body: document(kid("old"), kid("new")), delay: 200 * time.Millisecond})
		var wg sync.WaitGroup
		for range 500 {
			wg.Go(func() {
				begun := time.Now()
				wantFound(t, k, "new", "EdDSA", 1, nil)
				if took := time.Since(begun); took > 200*time.Millisecond {
					t.Errorf("a request waited %s, want at most the 200ms of the fetch", took)
				}
			})
		}
		wg.Wait()
		if n := len(o.asked()); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
	})
}

// A fetch that the background made just before does not use up the interval.
func TestBackgroundDoesNotDelayUnknownKids(t *testing.T) {
	o := originOf(document(kid("old")))
	bubble(t, o, func(t *testing.T, k *Keys) {
		o.publish(kid("new"))
		wantFound(t, k, "new", "EdDSA", 1, nil)
		wantFound(t, k, "old", "EdDSA", 0, ErrUnknownKey)
	})
}

// An issuer may change its keys twice and more within the interval. Nobody gets
// a refusal then.
func TestRotationsInABurst(t *testing.T) {
	o := originOf(document(kid("0")))
	bubble(t, o, func(t *testing.T, k *Keys) {
		for i := 1; i <= 3; i++ {
			o.publish(kid(numbered("", i)))
			begun := time.Now()
			wantFound(t, k, numbered("", i), "EdDSA", 1, nil)
			if took := time.Since(begun); took != 0 {
				t.Errorf("rotation %d: a request waited %s, want no wait", i, took)
			}
			time.Sleep(time.Second)
		}
		// Bogus kids cannot cause more than the burst either.
		for i := range 1000 {
			wantFound(t, k, numbered("bogus-", i), "EdDSA", 0, ErrUnknownKey)
		}
		if n := len(o.asked()); n != 1+3 {
			t.Errorf("%d fetches, want 4", n)
		}
		time.Sleep(time.Hour)
		before := len(o.asked())
		for i := range 1000 {
			wantFound(t, k, numbered("more-", i), "EdDSA", 0, ErrUnknownKey)
		}
		if n := len(o.asked()) - before; n != burst {
			t.Errorf("%d fetches for unknown kids after a quiet hour, want %d", n, burst)
		}
	})
}

// Within the interval no request waits, and one fetch is made at its end.
func TestUnknownKidWithinTheInterval(t *testing.T) {
	o := originOf(document(kid("old")))
	bubble(t, o, func(t *testing.T, k *Keys) {
		for i := range burst {
			wantFound(t, k, numbered("bogus-", i), "EdDSA", 0, ErrUnknownKey)
		}
		spent := time.Now()
		time.Sleep(3 * time.Second)
		o.publish(kid("old"), kid("new"))
		begun := time.Now()
		wantFound(t, k, "new", "EdDSA", 0, ErrUnknownKey)
		if took := time.Since(begun); took != 0 {
			t.Errorf("a request waited %s, want no wait", took)
		}
		time.Sleep(every - 3*time.Second) // no request comes
		synctest.Wait()
		asked := o.asked()
		if last := len(asked) - 1; last != 1+burst || asked[last].Sub(spent) != every {
			t.Fatalf("fetches at %v, want the last one %s after %s", asked, every, spent)
		}
		wantFound(t, k, "new", "EdDSA", 1, nil)
		time.Sleep(3 * every)
		if n := len(o.asked()); n != 2+burst {
			t.Errorf("%d fetches, want still %d", n, 2+burst)
		}
	})
}

// A fetch that began before the key was published says nothing about its kid.
func TestFetchThatWasTooEarly(t *testing.T) {
	o := originOf(document(kid("old")))
	bubble(t, o, func(t *testing.T, k *Keys) {
		o.set("", answer{body: document(kid("old")), delay: 100 * time.Millisecond})
		var wg sync.WaitGroup
		wg.Go(func() { wantFound(t, k, "bogus", "EdDSA", 0, ErrUnknownKey) })
		time.Sleep(50 * time.Millisecond)
		wg.Go(func() { wantFound(t, k, "new", "EdDSA", 0, ErrUnknownKey) }) // waits for the fetch in vain
		wg.Wait()
		o.publish(kid("old"), kid("new"))
		time.Sleep(every)
		synctest.Wait()
		wantFound(t, k, "new", "EdDSA", 1, nil)
		if n := len(o.asked()); n != 4 {
			t.Errorf("%d fetches, want 4", n)
		}
	})
}

// The same kid again and again causes ever fewer fetches.
func TestRepeatedBogusKid(t *testing.T) {
	o := originOf(document(kid("a")))
	opts := o.options()
	opts.RefreshInterval = 24 * time.Hour
	bubbleWith(t, opts, func(t *testing.T, k *Keys) {
		for range 3600 {
			wantFound(t, k, "bogus", "EdDSA", 0, ErrUnknownKey)
			time.Sleep(time.Second)
		}
		if n := len(o.asked()); n < 8 || n > 11 { // pauses of 10 s, 20 s, 40 s …
			t.Errorf("%d fetches in an hour, want 8 to 11", n)
		}
	})
}

// A token may come before the issuer has published its key. It is accepted
// after at most twice the delay of the issuer, or one interval.
func TestKeyPublishedLate(t *testing.T) {
	for _, late := range []time.Duration{time.Second, every, 35 * time.Second, 100 * time.Second} {
		o := originOf(document(kid("old")))
		opts := o.options()
		opts.RefreshInterval = 24 * time.Hour
		bubbleWith(t, opts, func(t *testing.T, k *Keys) {
			begun := time.Now()
			time.AfterFunc(late, func() { o.publish(kid("old"), kid("new")) })
			for {
				if _, err := k.Find(background, "new", "EdDSA"); err == nil {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
			if took := time.Since(begun); took > max(2*late+every, every+time.Second) {
				t.Errorf("published after %s, accepted after %s, want at most twice as long and one interval of %s", late, took, every)
			}
		})
	}
}

// A fetch that failed says nothing about a kid. The kid causes another fetch as
// soon as the interval allows.
func TestFailedFetchSaysNothingOfAKid(t *testing.T) {
	o := originOf(document(kid("old")))
	bubble(t, o, func(t *testing.T, k *Keys) {
		o.set("", answer{err: errDown})
		begun := time.Now()
		for time.Since(begun) < 200*time.Second {
			wantFound(t, k, "new", "EdDSA", 0, ErrUnknownKey)
			time.Sleep(time.Second)
		}
		o.publish(kid("old"), kid("new"))
		time.Sleep(every + time.Second)
		wantFound(t, k, "new", "EdDSA", 1, nil)
	})
}

// A kid that is there for another alg causes no fetch. Neither does a token
// without a kid if more keys fit than are tried.
func TestQuestionsThatCauseNoFetch(t *testing.T) {
	o := originOf(document(kid("a"), kid("b"), kid("c"), kid("d"), kid("e")))
	bubble(t, o, func(t *testing.T, k *Keys) {
		for range 100 {
			wantFound(t, k, "a", "RS256", 0, ErrUnknownKey)
			wantFound(t, k, "", "EdDSA", 0, ErrAmbiguousKey)
		}
		if n := len(o.asked()); n != 1 {
			t.Errorf("%d fetches, want the first one alone", n)
		}
		// If no key fits, the issuer may have published one by now.
		o.publish(kid("a"), jwk(rsaKey().Public(), map[string]any{"kid": "rsa"}))
		wantFound(t, k, "", "RS256", 1, nil)
	})
}

// The flood is 100,000 kids that do not exist, in 30 s. An honest rotation comes
// in the middle, at the worst moment, when the interval has just begun.
func TestFloodOfBogusKids(t *testing.T) {
	o := originOf(document(kid("old")))
	bubble(t, o, func(t *testing.T, k *Keys) {
		begun := time.Now()
		var accepted time.Duration
		const rotation = 34_000
		var rotated time.Time
		for i := range 100_000 {
			if i == rotation {
				rotated = time.Now()
				o.publish(kid("old"), kid("new"))
			}
			if _, err := k.Find(background, numbered("bogus-", i), "EdDSA"); !errors.Is(err, ErrUnknownKey) {
				t.Fatal(err)
			}
			if i >= rotation && accepted == 0 && i%100 == 0 {
				if keys, _ := k.Find(background, "new", "EdDSA"); len(keys) == 1 {
					accepted = time.Since(rotated)
				}
			}
			if i%10 == 0 {
				wantFound(t, k, "old", "EdDSA", 1, nil)
			}
			time.Sleep(300 * time.Microsecond)
		}
		elapsed := time.Since(begun)
		if accepted < every/2 || accepted > every+time.Second {
			t.Errorf("the new key was accepted after %s, want %s to %s", accepted, every/2, every+time.Second)
		}
		if n, most := len(o.asked()), int(elapsed/every)+1+burst; n > most {
			t.Errorf("%d fetches in %s, want at most %d", n, elapsed, most)
		}
		t.Logf("%s, %d fetches; the new key was accepted %s after its rotation", elapsed, len(o.asked()), accepted)
		k.demand.mu.Lock()
		defer k.demand.mu.Unlock()
		if n := len(k.demand.misses.young) + len(k.demand.misses.old); n > 2*maxMisses {
			t.Errorf("%d misses are remembered, want at most %d", n, 2*maxMisses)
		}
	})
}

// A slow issuer makes a bounded number of requests wait.
func TestWaitersAreBounded(t *testing.T) {
	o := originOf(document(kid("a")))
	bubble(t, o, func(t *testing.T, k *Keys) {
		o.set("", answer{body: document(kid("a")), delay: 2 * time.Second})
		var waited atomic.Int64
		var wg sync.WaitGroup
		for i := range 3 * maxWaiting {
			wg.Go(func() {
				begun := time.Now()
				wantFound(t, k, numbered("bogus-", i), "EdDSA", 0, ErrUnknownKey)
				if took := time.Since(begun); took > 0 {
					waited.Add(1)
				}
			})
		}
		wg.Wait()
		if n := waited.Load(); n != maxWaiting {
			t.Errorf("%d requests waited, want %d", n, maxWaiting)
		}
		if k.demand.waiting != 0 {
			t.Errorf("%d requests are counted as waiting after the last one, want 0", k.demand.waiting)
		}
	})
}

func TestRequestThatIsGivenUp(t *testing.T) {
	o := originOf(document(kid("a")))
	bubble(t, o, func(t *testing.T, k *Keys) {
		o.set("", answer{body: document(kid("a")), delay: time.Second})
		ctx, cancel := context.WithTimeout(background, 100*time.Millisecond)
		defer cancel()
		begun := time.Now()
		_, err := k.Find(ctx, "new", "EdDSA")
		if took := time.Since(begun); !errors.Is(err, context.DeadlineExceeded) || took != 100*time.Millisecond {
			t.Errorf("Find with a deadline of 100ms: got error %v after %s, want %v after 100ms", err, took, context.DeadlineExceeded)
		}
		// A known key needs no wait, so it is found all the same.
		if keys, err := k.Find(ctx, "a", "EdDSA"); len(keys) != 1 || err != nil {
			t.Errorf("Find of a known key after the deadline: got %v and error %v, want the key", keys, err)
		}
	})
}

// A request whose key is known does not wait for a fetch under way.
func TestKnownKeyDuringAFetch(t *testing.T) {
	o := originOf(document(kid("a")))
	bubble(t, o, func(t *testing.T, k *Keys) {
		o.set("", answer{delay: time.Hour})
		time.Sleep(defaultRefreshInterval - time.Second) // the refresh is under way
		for range 100 {
			begun := time.Now()
			wantFound(t, k, "a", "EdDSA", 1, nil)
			if took := time.Since(begun); took != 0 {
				t.Fatalf("a request waited %s, want no wait", took)
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}
