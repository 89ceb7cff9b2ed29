package globalrevocation

import (
	"strconv"
	"testing"
	"time"

	"rescind/revocation/intake"
)

// A credential is remembered for as long as it can be valid, and no longer than
// two such times.
func TestACredentialIsRememberedWhileItIsValid(t *testing.T) {
	const valid = longest + leeway
	var o once
	begun := time.Now()
	alice, bob := user{email: "a@b"}, user{email: "b@b"}
	c := credential{id: "j"}
	for _, step := range []struct {
		after time.Duration
		who   user
		want  state
	}{
		{0, alice, fresh},
		{valid, bob, reused},
		{valid + 2*leeway, bob, reused}, // a new generation begins
		{valid + 2*leeway + time.Minute, alice, repeated},
		{4 * valid, bob, fresh},
	} {
		if _, got := o.begin(c, step.who, begun.Add(step.after)); got != step.want {
			t.Fatalf("after %s, for %s: got the state %d, want %d", step.after, step.who.email, got, step.want)
		}
		if step.want == fresh {
			o.end(c, intake.Outcome{State: intake.Revoked}, nil)
		}
	}
}

func TestCredentialsThatAreRememberedAreBounded(t *testing.T) {
	var o once
	now := time.Now()
	for i := range most {
		if _, got := o.begin(credential{id: strconv.Itoa(i)}, user{}, now); got != fresh {
			t.Fatalf("credential %d: got the state %d, want %d", i, got, fresh)
		}
	}
	if _, got := o.begin(credential{id: "one more"}, user{}, now); got != busy {
		t.Errorf("one credential more: got the state %d, want %d", got, busy)
	}
	if _, got := o.begin(credential{id: "one more"}, user{}, now.Add(2*longest)); got != fresh {
		t.Errorf("the same in the next generation: got the state %d, want %d", got, fresh)
	}
}
