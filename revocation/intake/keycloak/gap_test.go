package keycloak

import (
	"strings"
	"testing"
	"time"
)

func TestGaps(t *testing.T) {
	deleted := func(r *rig) {
		r.realm.Lock()
		r.realm.admin = nil
		r.realm.Unlock()
	}
	for _, c := range []struct {
		name string
		do   func(r *rig)
		want string
	}{
		{"nothing", func(*rig) {}, ""},
		{"events deleted", deleted, "admin events were deleted at keycloak"},
		{"events deleted after hours of silence", func(r *rig) {
			r.clock.Advance(5 * time.Hour)
			r.poll()
			deleted(r)
		}, "admin events were deleted at keycloak"},
		{"events deleted while the poller was away", func(r *rig) {
			deleted(r)
			r.start()
		}, "admin events were deleted at keycloak"},
		{"events expired that were read", func(r *rig) {
			r.set("attributes", map[string]any{"adminEventsExpiration": "3600"})
			for range 130 {
				r.clock.Advance(time.Minute)
				r.poll()
			}
			deleted(r)
		}, ""},
		{"away for longer than events last", func(r *rig) {
			r.set("attributes", map[string]any{"adminEventsExpiration": "3600"})
			r.clock.Advance(2 * time.Hour)
			deleted(r)
			r.start()
		}, "the poller was away for longer than keycloak keeps admin events, which is 1h0m0s"},
		{"away for longer than user events last", func(r *rig) {
			r.set("eventsExpiration", 3600)
			r.clock.Advance(2 * time.Hour)
			r.start()
		}, "the poller was away for longer than keycloak keeps user events, which is 1h0m0s"},
		{"admin events off", func(r *rig) {
			r.set("adminEventsEnabled", false)
			r.clock.Advance(thorough)
		}, "saves no admin events"},
		{"admin events off and on again", func(r *rig) {
			r.realm.save(r.clock.Now(), "UPDATE", "REALM", "", `{"adminEventsEnabled":false}`)
		}, "the saving of admin events was switched off"},
		{"details off", func(r *rig) {
			r.set("adminEventsDetailsEnabled", false)
			r.clock.Advance(thorough)
		}, "without details"},
		{"user events off", func(r *rig) {
			r.set("eventsEnabled", false)
			r.clock.Advance(thorough)
		}, "saves no user events"},
		{"an unreadable event", func(r *rig) {
			r.realm.save(r.clock.Now(), "UPDATE", "USER", "users/x", "")
			r.realm.admin[len(r.realm.admin)-1].text = []byte(`{"id":"x","time":1795711621704,"resourcePath":7}`)
		}, "cannot be read"},
		{"a deleted client without details", func(r *rig) {
			r.realm.save(r.clock.Now(), "DELETE", "CLIENT", "clients/x", "")
		}, `the client "x" was deleted`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.poll()
			r.logout("before", r.clock.Now())
			r.poll()
			c.do(r)
			r.logout("after", r.clock.Now())
			r.poll()
			r.wantFault(c.want)
			r.wantUsers("after", "before")
			if lost := strings.Contains(c.want, "saves") || strings.Contains(c.want, "without details"); (c.want != "" && !lost) != r.text.has("level=ERROR") {
				t.Errorf("got the log %s, want an error in it: %t", r.text, c.want != "" && !lost)
			}
		})
	}
}

// A gap is shown for an hour, also after a restart.
func TestGapIsShownForAnHour(t *testing.T) {
	r := newRig(t)
	r.poll()
	r.realm.save(r.clock.Now(), "UPDATE", "REALM", "", `{"adminEventsEnabled":false}`)
	r.poll()
	r.clock.Advance(50 * time.Minute)
	r.start()
	r.poll()
	r.wantFault("switched off")
	r.clock.Advance(20 * time.Minute)
	r.poll()
	r.wantFault("")
}
