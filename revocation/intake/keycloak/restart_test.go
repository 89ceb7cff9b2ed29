package keycloak

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"
)

// steps change the realm. After each of them the poller polls.
var steps = []struct {
	name string
	do   func(r *rig)
}{
	{"a user is logged out", func(r *rig) { r.logout("a", r.clock.Now()) }},
	{"a key is disabled", func(r *rig) {
		r.realm.changeKey(signingKey, "DISABLED")
		r.realm.save(r.clock.Now(), "UPDATE", "COMPONENT", "components/x", "")
	}},
	{"a user is disabled and enabled, another one is deleted", func(r *rig) {
		r.realm.save(r.clock.Now(), "UPDATE", "USER", "users/b", `{"enabled":false}`)
		r.realm.save(r.clock.Now().Add(time.Millisecond), "UPDATE", "USER", "users/b", `{"enabled":true}`)
		r.realm.save(r.clock.Now().Add(2*time.Millisecond), "DELETE", "USER", "users/c", `{"id":"c"}`)
	}},
	{"the key is good again", func(r *rig) {
		r.realm.changeKey(signingKey, "ACTIVE")
		r.realm.save(r.clock.Now(), "UPDATE", "COMPONENT", "components/x", "")
	}},
	{"a client has a not-before time, its secret is regenerated", func(r *rig) {
		r.realm.Lock()
		r.realm.clients["x"] = map[string]any{"clientId": "web", "enabled": true}
		r.realm.Unlock()
		r.realm.save(r.clock.Now(), "UPDATE", "CLIENT", "clients/x", fmt.Sprintf(`{"clientId":"web","notBefore":%d}`, r.clock.Now().Unix()-60))
		r.realm.save(r.clock.Now().Add(time.Second), "ACTION", "CLIENT", "clients/x/client-secret", "{}")
	}},
	{"an event of the first step comes late", func(r *rig) { r.logout("late", r.clock.Now().Add(-4*time.Minute)) }},
}

// errCrash ends a poller at one point.
var errCrash = errors.New("the process ends here")

// story carries out the steps. The point of this number fails: a request, a save
// before or after it, or an append. Then the process ends, or polls again. story
// returns the revocations in force at the end, and how many points there were.
func story(t *testing.T, crash int, ends bool) (revoked []string, points int) {
	r := newRig(t)
	r.poll() // before the first poll there is nothing to lose
	point := func() error {
		points++
		if points == crash {
			return errCrash
		}
		return nil
	}
	r.realm.before = func(*http.Request) int {
		if point() != nil {
			return http.StatusBadGateway
		}
		return 0
	}
	r.shelf.before, r.shelf.after = point, point
	r.log.Lock()
	r.log.FailAppend = point
	r.log.Unlock()
	for _, s := range steps {
		r.clock.Advance(thorough)
		s.do(r)
		for attempt := 0; ; attempt++ {
			if attempt == 3 {
				t.Fatalf("%s: no poll succeeds after the crash at point %d: %v", s.name, crash, r.door.Status().Error)
			}
			if r.poller.Poll(t.Context()) == nil {
				break
			}
			if ends {
				r.start()
			}
		}
	}
	revoked = r.revoked()
	r.stop()
	r.stop = func() {}
	return slices.Compact(revoked), points
}

func TestRestartAtEveryPointLosesNothing(t *testing.T) {
	want, points := story(t, 0, true)
	if len(want) != 6 || points < 50 {
		t.Fatalf("without a crash: got %q at %d points, want 6 revocations at 50 points or more", want, points)
	}
	for crash := 1; crash <= points; crash++ {
		outcomes := []bool{true}
		if crash%3 == 0 || os.Getenv("RESCIND_LONG") != "" { // the others take long under the race detector
			outcomes = append(outcomes, false)
		}
		for _, ends := range outcomes {
			if got, _ := story(t, crash, ends); !slices.Equal(got, want) {
				t.Errorf("fault at point %d of %d, the process ends: %t\ngot  %q\nwant %q", crash, points, ends, got, want)
			}
		}
	}
}

// A key is disabled, the process ends once the revocation is durable, and the key
// is good again when the next process looks.
func TestKeyThatIsGoodAgainAfterACrashIsUndone(t *testing.T) {
	r := newRig(t)
	r.poll()
	r.realm.changeKey(signingKey, "DISABLED")
	r.clock.Advance(thorough)
	saves := 0
	r.shelf.before = func() error {
		if saves++; saves == 2 {
			return errCrash
		}
		return nil
	}
	if err := r.poller.Poll(t.Context()); !errors.Is(err, errCrash) {
		t.Fatalf("got the error %v, want %v", err, errCrash)
	}
	if got, want := r.revoked(), []string{"kid=" + signingKey}; !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	r.realm.changeKey(signingKey, "ACTIVE")
	r.clock.Advance(time.Minute)
	r.start()
	r.poll()
	if got := r.revoked(); len(got) != 0 {
		t.Errorf("got %q, want nothing in force", got)
	}
}
