package keycloak

import (
	"slices"
	"testing"
	"time"

	"rescind/revocation/intake"
)

func TestPowersOfTheEntry(t *testing.T) {
	r := newRig(t)
	r.may = intake.DefaultPowers
	r.start()
	r.poll()
	r.logout("a", r.clock.Now())
	r.realm.save(r.clock.Now(), "ACTION", "REALM", "logout-all", "{}")
	r.realm.save(r.clock.Now(), "DELETE", "CLIENT", "clients/x", `{"id":"x","clientId":"web"}`)
	r.realm.changeKey(signingKey, "DISABLED")
	r.realm.save(r.clock.Now(), "UPDATE", "COMPONENT", "components/x", "{}")
	r.poll()
	if got, want := r.revoked(), []string{"sub=a until 2026-11-26T17:00:01Z"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := r.door.Status().Counts["refused"]; got != 3 {
		t.Errorf("got %d refused events, want 3", got)
	}
}

func TestKeyIsUndoneWhenItIsGoodAgain(t *testing.T) {
	for _, status := range []string{"DISABLED", ""} {
		r := newRig(t)
		r.poll()
		whole := r.realm.keys
		r.realm.changeKey(signingKey, status)
		r.realm.save(r.clock.Now(), "UPDATE", "COMPONENT", "components/x", "")
		r.poll()
		if got, want := r.revoked(), []string{"kid=" + signingKey}; !slices.Equal(got, want) {
			t.Fatalf("key with the status %q: got %q, want %q", status, got, want)
		}
		r.clock.Advance(time.Hour)
		r.start()
		r.poll()
		r.realm.keys = whole
		r.realm.save(r.clock.Now(), "UPDATE", "COMPONENT", "components/x", "")
		r.poll()
		if got := r.revoked(); len(got) != 0 {
			t.Errorf("key that is good again: got %q, want nothing in force", got)
		}
	}
}

// A key can vanish while admin events are off.
func TestKeyThatVanishesWithoutAnEventIsFound(t *testing.T) {
	r := newRig(t)
	r.poll()
	r.realm.changeKey(signingKey, "")
	r.clock.Advance(thorough)
	r.poll()
	if got, want := r.revoked(), []string{"kid=" + signingKey}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Keys of HMAC and keys for encryption sign no token of a client.
func TestOtherKeysEndNothing(t *testing.T) {
	r := newRig(t)
	r.poll()
	for _, k := range r.realm.keys {
		if k["kid"] != signingKey {
			r.realm.changeKey(k["kid"].(string), "")
		}
	}
	r.clock.Advance(thorough)
	r.poll()
	if got := r.revoked(); len(got) != 0 {
		t.Errorf("got %q, want nothing in force", got)
	}
}

func TestEmptyKeyListEndsNoKey(t *testing.T) {
	r := newRig(t)
	r.poll()
	r.realm.keys = nil
	r.clock.Advance(thorough)
	if err := r.poller.Poll(t.Context()); err == nil {
		t.Error("a realm without keys: got no error, want one")
	}
	if got := r.revoked(); len(got) != 0 {
		t.Errorf("got %q, want nothing in force", got)
	}
}

// Each update of a client or a realm repeats its not-before time.
func TestNotBeforeCountsOnce(t *testing.T) {
	r := newRig(t)
	r.poll()
	for _, name := range []string{"a", "b"} {
		r.realm.save(r.clock.Now(), "UPDATE", "REALM", "", `{"displayName":"`+name+`","notBefore":1795711647}`)
		r.realm.save(r.clock.Now(), "UPDATE", "CLIENT", "clients/x", `{"name":"`+name+`","clientId":"web","notBefore":1795711647}`)
	}
	r.poll()
	if got := r.door.Status().Counts; got["revoked"] != 2 || got["ignored"] != 2 {
		t.Errorf("got the outcomes %v, want 2 revoked and 2 ignored", got)
	}
	r.set("notBefore", 1795711700)
	r.clock.Advance(thorough)
	r.poll()
	if got := r.revoked(); !slices.Contains(got, "all until 2026-11-26T16:48:21Z") {
		t.Errorf("a not-before time without an event: got %q, want all until 2026-11-26T16:48:21Z", got)
	}
}
