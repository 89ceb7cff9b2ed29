package keycloak

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rescind/revocation/intake"
)

const signingKey = "vqNiYMWM4YQj9wLvxWAUzbJfx5odWeLDrMYnNr4LK1w"

// logout saves the event of a user who was logged out.
func (r *rig) logout(user string, at time.Time) {
	r.realm.save(at, "ACTION", "USER", "users/"+user+"/logout", "")
}

// users returns the subjects with a revocation in force, without repetitions.
func (r *rig) users() (out []string) {
	for _, text := range r.revoked() {
		if user, ok := strings.CutPrefix(text, "sub="); ok {
			out = append(out, strings.Fields(user)[0])
		}
	}
	return slices.Compact(out)
}

func (r *rig) wantUsers(want ...string) {
	r.t.Helper()
	if got := r.users(); !slices.Equal(got, want) {
		r.t.Errorf("got revocations of the subjects %q, want %q", got, want)
	}
}

// wantFault demands that the error of the intake has this part. An empty part
// demands no error.
func (r *rig) wantFault(part string) {
	r.t.Helper()
	if got := r.door.Status().Error; !strings.Contains(got, part) || (got == "") != (part == "") {
		r.t.Errorf("got the error %q of the intake, want one with %q", got, part)
	}
}

func TestPollingBeginsWithTheNextEvent(t *testing.T) {
	r := newRig(t)
	for i := range 250 {
		r.logout(fmt.Sprintf("past-%d", i), r.clock.Now().Add(-time.Second))
	}
	r.poll()
	r.wantUsers()
	r.logout("next", r.clock.Now())
	r.start()
	r.poll()
	r.wantUsers("next")
	r.wantFault("")
}

// An empty realm has no event whose time could be the position. The clocks of the
// two may differ.
func TestPollingBeginsInAnEmptyRealmWithAnotherClock(t *testing.T) {
	r := newRig(t)
	r.poll()
	r.logout("early", r.clock.Now().Add(-time.Hour))
	r.poll()
	r.wantUsers("early")
}

func TestPollingGoesOnAfterHours(t *testing.T) {
	r := newRig(t)
	r.poll()
	r.logout("a", r.clock.Now())
	r.poll()
	for i := range 5 {
		r.clock.Advance(time.Hour)
		r.logout(fmt.Sprintf("b%d", i), r.clock.Now())
	}
	r.clock.Advance(time.Hour)
	r.start()
	r.poll()
	r.wantUsers("a", "b0", "b1", "b2", "b3", "b4")
	r.wantFault("")
}

// Keycloak saves an event when its transaction ends. So an event of an earlier
// time can come last.
func TestLateEventsAreFound(t *testing.T) {
	for _, late := range []time.Duration{0, time.Second, 9 * time.Second, 11 * time.Second, time.Minute, 4 * time.Minute} {
		r := newRig(t)
		r.poll()
		r.logout("first", r.clock.Now())
		r.poll()
		r.clock.Advance(thorough)
		r.logout("late", r.clock.Now().Add(-late-thorough))
		r.poll()
		if got := r.users(); !slices.Contains(got, "late") {
			t.Errorf("an event that came %s late: got revocations of %q, want one of late", late, got)
		}
	}
}

// A clock of a Keycloak node that is ahead must not hide the events of the others.
func TestEventOfALaterTimeHidesNoEvent(t *testing.T) {
	r := newRig(t)
	r.poll()
	r.logout("ahead", r.clock.Now().Add(24*time.Hour))
	r.poll()
	r.logout("now", r.clock.Now())
	r.poll()
	r.wantUsers("ahead", "now")
}

func TestEventsAreCarriedOutOnce(t *testing.T) {
	r := newRig(t)
	r.poll()
	r.logout("a", r.clock.Now())
	for range 3 {
		r.poll()
		r.clock.Advance(thorough)
	}
	r.start()
	r.poll()
	if got := r.door.Status().Counts; got["revoked"]+got["already"]+got["ignored"] != 0 {
		t.Errorf("after a restart without a new event: got the outcomes %v, want none", got)
	}
}

// More events than a page has, also at one instant.
func TestPages(t *testing.T) {
	for _, step := range []time.Duration{0, time.Millisecond, time.Minute} {
		t.Run(step.String(), func(t *testing.T) {
			r := newRig(t)
			r.poll()
			r.clock.Advance(24 * time.Hour)
			var want []string
			for i := range 350 {
				user := fmt.Sprintf("user-%03d", i)
				r.logout(user, r.clock.Now().Add(-12*time.Hour).Add(time.Duration(i)*step))
				want = append(want, user)
			}
			r.poll()
			r.wantUsers(want...)
			if r.realm.largest > maxPage {
				t.Errorf("got a page of %d events, want at most %d", r.realm.largest, maxPage)
			}
		})
	}
}

// Events that expire while a backlog is read move the others.
func TestEventsThatExpireBetweenPagesHideNoEvent(t *testing.T) {
	r := newRig(t)
	r.poll()
	r.clock.Advance(time.Hour)
	var want []string
	for i := range 300 {
		user := fmt.Sprintf("user-%03d", i)
		r.logout(user, r.clock.Now().Add(time.Duration(i-1000)*time.Second))
		want = append(want, user)
	}
	pages := 0
	r.realm.before = func(req *http.Request) int {
		if strings.HasSuffix(req.URL.Path, "/admin-events") {
			if pages++; pages == 2 {
				r.realm.Lock()
				r.realm.admin = r.realm.admin[50:]
				r.realm.Unlock()
			}
		}
		return 0
	}
	r.poll()
	r.wantUsers(want...)
}

func TestEventThatIsLargerThanAPageIsRead(t *testing.T) {
	r := newRig(t)
	r.poll()
	r.poller.limit = 64 << 10
	r.realm.save(r.clock.Now(), "UPDATE", "USER", "users/large", `{"enabled":false,"attributes":{"x":["`+strings.Repeat("x", 64<<10)+`"]}}`)
	r.logout("next", r.clock.Now())
	r.poll()
	r.wantUsers("large", "next")
}

// set changes a member of the realm without an event.
func (r *rig) set(name string, value any) {
	r.realm.Lock()
	defer r.realm.Unlock()
	r.realm.realm[name] = value
}

func TestRefusalsSayTheNextStep(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(r *rig)
		want string
	}{
		{"no view-events", func(r *rig) { r.realm.lacks["view-events"] = true }, `lacks the role "view-events"`},
		{"no view-realm", func(r *rig) { r.realm.lacks["view-realm"] = true }, `lacks the role "view-realm"`},
		{"no view-clients", func(r *rig) { r.realm.lacks["view-clients"] = true }, `lacks the role "view-clients"`},
		{"no view-users and no details", func(r *rig) {
			r.realm.lacks["view-users"] = true
			r.set("adminEventsDetailsEnabled", false)
		}, `lacks the role "view-users"`},
		{"wrong secret", func(r *rig) { r.poller.ClientSecret = func() (string, error) { return "old", nil } }, `refuses the client "rescind"`},
		{"no secret", func(r *rig) {
			r.poller.ClientSecret = func() (string, error) { return "", errors.New("kc.secret: no such file") }
		}, "kc.secret"},
		{"no realm", func(r *rig) { r.poller.Realm = "acne" }, "check server and realm"},
		{"unwell", func(r *rig) {
			r.realm.before = func(*http.Request) int { return http.StatusServiceUnavailable }
		}, "503"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			c.do(r)
			if err := r.poller.Poll(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got the error %v, want one with %q", err, c.want)
			}
			r.wantFault(c.want)
			if got := fmt.Sprint(r.text.String(), r.door.Status()); strings.Contains(got, "secret=") {
				t.Errorf("the secret is in %s", got)
			}
		})
	}
}

// A client that may look up users needs no more when details are missing, and
// Keycloak may forget its sessions at any time.
func TestForgottenTokenIsReplaced(t *testing.T) {
	r := newRig(t)
	r.poll()
	r.realm.Lock()
	r.realm.tokens += 7
	r.realm.Unlock()
	r.logout("a", r.clock.Now())
	r.poll()
	r.wantUsers("a")
}

// Only one node polls. A node that lost the lease must not go on.
func TestRunEndsWhenAnotherNodeSavesThePosition(t *testing.T) {
	r := newRig(t)
	r.poll()
	r.shelf.documents["keycloak/keycloak"] = document{"{}", 99}
	r.logout("a", r.clock.Now())
	if err := r.poller.Poll(t.Context()); !errors.Is(err, intake.ErrChanged) {
		t.Errorf("got the error %v, want %v", err, intake.ErrChanged)
	}
}

// An hour without Keycloak, by the real loop.
func TestAnHourWithoutKeycloak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		began := time.Now()
		start := r.clock.Now()
		sync := func() { r.clock.Advance(start.Add(time.Since(began)).Sub(r.clock.Now())) }
		go func() { ended <- r.poller.Run(ctx) }()
		pass := func(d time.Duration) {
			for range d / time.Second {
				time.Sleep(time.Second)
				sync()
			}
			synctest.Wait()
		}
		pass(3 * time.Second)
		r.logout("before", r.clock.Now())
		pass(3 * time.Second)
		r.wantUsers("before")

		r.realm.Lock()
		r.realm.before = func(*http.Request) int { return http.StatusBadGateway }
		asked := len(r.realm.requests)
		r.realm.Unlock()
		var want []string
		for i := range 60 {
			user := fmt.Sprintf("hour-%02d", i)
			r.logout(user, r.clock.Now()) // by a node that the poller does not reach
			want = append(want, user)
			pass(time.Minute)
		}
		r.wantUsers("before")
		r.wantFault("502")
		r.realm.Lock()
		if got := len(r.realm.requests) - asked; got < 200 || got > 600 {
			t.Errorf("got %d requests in an hour of errors, want about 300: one in each 8 to 23 s", got)
		}
		r.realm.before = nil
		r.realm.Unlock()
		pass(25 * time.Second)
		r.wantUsers(append([]string{"before"}, want...)...)
		r.wantFault("")
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: got the error %v, want %v", err, context.Canceled)
		}
		r.stop()
		r.stop = func() {}
	})
}
