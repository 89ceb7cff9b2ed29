package intake

import (
	"errors"
	"testing"
	"time"

	"rescind/revocation"
	"rescind/revocation/ledger"
)

func TestDoorRevokesInItsName(t *testing.T) {
	w := newWorld(t)
	d := w.door(nil)
	w.clock.Advance(1500 * time.Millisecond)
	out := w.wantState(d, w.event("e1", Act{Power: Subject, Issuer: idp, Claims: sub("alice"), Cutoff: w.clock.Now()}), Revoked)
	w.wantInForce("[sub:alice] before 2s by intake:kc")
	w.wantAudited("of the revocation, with the event", func(e *ledger.AuditEntry) bool {
		return e.By == "intake:kc" && e.Action == ledger.ActRevoke && e.Outcome == ledger.Accepted && out.Detail == "revocation "+e.ID &&
			e.Reason == "event user-disabled; id e1; at 2026-11-24T07:00:01.5Z"
	})
}

func TestDoorErrorsAskForTheEventAgain(t *testing.T) {
	w := newWorld(t)
	d := w.door(nil)
	w.log.FailAppend = func() error { return errBroken }
	e := w.event("e1", Act{Power: Subject, Issuer: idp, Claims: sub("alice"), Cutoff: w.clock.Now()})
	if out, err := d.Take(t.Context(), e); !errors.Is(err, errBroken) || out != (Outcome{}) {
		t.Fatalf("a ledger that fails: got %+v and %v, want the error of the ledger", out, err)
	}
	w.log.FailAppend = nil
	w.wantState(d, e, Revoked)
	w.wantInForce("[sub:alice] before 1s by intake:kc")
}

func TestDoorChecksThePowerOfTheTargetItself(t *testing.T) {
	token := "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlLmNvbS8iLCJqdGkiOiJqMSIsImV4cCI6MTc5NTY1ODQwMH0.AAAA"
	for _, c := range []struct {
		name string
		act  Act
		may  []Power
		want State
	}{
		{"a token", Act{Power: Token, Token: token}, []Power{Token}, Revoked},
		{"a token that is not listed", Act{Power: Token, Token: token}, []Power{Subject}, Refused},
		{"a jti", Act{Power: Token, Claims: claim("jti", "j")}, []Power{Token}, Revoked},
		{"a session", Act{Power: Session, Claims: claim("sid", "s")}, []Power{Session}, Revoked},
		{"a subject", Act{Power: Subject, Claims: sub("a")}, []Power{Subject}, Revoked},
		{"a subject by pointer", Act{Power: Subject, Claims: claim("/sub", "a")}, []Power{Subject}, Revoked},
		{"a mapped subject", Act{Power: Subject, Claims: claim("email", "a@b")}, []Power{Subject}, Revoked},
		{"a client", Act{Power: Client, Claims: claim("azp", "web")}, []Power{Client}, Revoked},
		{"a key", Act{Power: KeyID, KeyID: "k1"}, []Power{KeyID}, Revoked},
		{"all", Act{Power: All, All: true}, []Power{All}, Revoked},
		{"a claim that no map names", Act{Power: All, Claims: claim("tenant", "acme")}, []Power{All}, Revoked},

		{"a subject as a token", Act{Power: Token, Claims: sub("a")}, []Power{Token}, Refused},
		{"a subject as a session", Act{Power: Session, Claims: sub("a")}, []Power{Session, Token}, Refused},
		{"a client as a subject", Act{Power: Subject, Claims: claim("client_id", "web")}, DefaultPowers, Refused},
		{"a key as a token", Act{Power: Token, KeyID: "k1"}, DefaultPowers, Refused},
		{"all as a subject", Act{Power: Subject, All: true}, DefaultPowers, Refused},
		{"an audience as a subject", Act{Power: Subject, Claims: claim("aud", "api")}, DefaultPowers, Refused},
		{"every tenant as a subject", Act{Power: Subject, Claims: claim("tenant", "acme")}, DefaultPowers, Refused},
		{"a claim that no map names as a client", Act{Power: Client, Claims: claim("group", "x")}, []Power{Client, Subject}, Refused},
		{"a subject that is declared as all", Act{Power: All, Claims: sub("a")}, []Power{Subject}, Refused},
		{"no power", Act{Claims: sub("a")}, DefaultPowers, Refused},
		{"a block", Act{Power: Subject, Claims: sub("a"), Block: true}, []Power{Subject, Block}, Revoked},
		{"a block that is not listed", Act{Power: Subject, Claims: sub("a"), Block: true}, DefaultPowers, Refused},
		{"a block alone", Act{Power: Subject, Claims: sub("a"), Block: true}, []Power{Block}, Refused},
		{"block as the power", Act{Power: Block, Claims: sub("a"), Block: true}, []Power{Block}, Refused},
		{"no target", Act{Power: Subject}, DefaultPowers, Refused},
		{"two targets", Act{Power: Subject, Claims: sub("a"), KeyID: "k"}, Powers, Refused},
		{"an empty subject", Act{Power: Subject, Claims: claim("sub", "")}, DefaultPowers, Refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			c.act.Issuer = idp
			w.wantState(w.door(may(c.may...)), w.event("e1", c.act), c.want)
			if n := len(w.inForce()); (n == 1) != (c.want == Revoked) {
				t.Errorf("got %d revocations in force, want one only if revoked", n)
			}
			if c.want == Refused {
				w.wantAudited("the refusal of the event", func(e *ledger.AuditEntry) bool {
					return e.By == "intake:kc" && e.Action == ledger.ActEvent && e.Outcome == ledger.Denied && e.Reason != "" && e.Detail != ""
				})
			}
		})
	}
}

func TestDoorChecksTheIssuer(t *testing.T) {
	w := newWorld(t)
	d := w.door(nil)
	for _, issuer := range []string{other, "", "https://idp.example.com"} {
		w.wantState(d, w.event("e "+issuer, Act{Power: Subject, Issuer: issuer, Claims: sub("a")}), Refused)
	}
	token := "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL290aGVyLmV4YW1wbGUuY29tLyIsImp0aSI6ImoxIiwiZXhwIjoxNzk1NjU4NDAwfQ.AAAA"
	w.wantState(d, w.event("token", Act{Power: Token, Issuer: idp, Token: token}), Refused)
	w.wantInForce()
}

func TestDoorWithoutIssuersAllowsNothing(t *testing.T) {
	w := newWorld(t)
	d := w.door(func(o *Options) { o.Issuers = nil })
	w.wantState(d, w.event("e", Act{Power: Subject, Issuer: idp, Claims: sub("a")}), Refused)
}

func TestDoorCutOff(t *testing.T) {
	for _, c := range []struct {
		name   string
		act    Act
		cutoff time.Duration // after the start of the clock; 0: none
		want   string
	}{
		{"within a second", Act{Power: Subject, Claims: sub("a")}, 3200 * time.Millisecond, "[sub:a] before 4s"},
		{"a whole second", Act{Power: Subject, Claims: sub("a")}, 3 * time.Second, "[sub:a] before 4s"},
		{"later than now", Act{Power: Subject, Claims: sub("a")}, time.Hour, "[sub:a] before 11s"},
		{"none, for a subject", Act{Power: Subject, Claims: sub("a")}, 0, "[sub:a] before 6s"},
		{"none, for a client", Act{Power: Client, Claims: claim("azp", "a")}, 0, "[azp:a] before 6s"},
		{"none, for all", Act{Power: All, All: true}, 0, "all before 6s"},
		{"none, for a session", Act{Power: Session, Claims: claim("sid", "a")}, 0, "[sid:a]"},
		{"none, for a session that the map names", Act{Power: Session, Claims: claim("/session/id", "a")}, 0, "[/session/id:a] block"},
		{"none, for a key", Act{Power: KeyID, KeyID: "k"}, 0, "kid k"},
		{"one for a session", Act{Power: Session, Claims: claim("sid", "a")}, time.Second, "[sid:a] before 2s"},
		{"beside block", Act{Power: Subject, Claims: sub("a"), Block: true}, time.Second, "[sub:a] block"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			d := w.door(func(o *Options) { o.May, o.Map = Powers, Map{NameSession: pointer(t, "/session/id")} })
			w.clock.Advance(10 * time.Second)
			c.act.Issuer = idp
			if c.cutoff != 0 {
				c.act.Cutoff = begin.Add(c.cutoff)
			}
			e := w.event("e", c.act)
			e.At = begin.Add(5 * time.Second)
			w.wantState(d, e, Revoked)
			w.wantInForce(c.want + " by intake:kc")
		})
	}
}

func TestDoorTakesARepetitionForOne(t *testing.T) {
	w := newWorld(t)
	d := w.door(may(Powers...))
	block := w.event("e1", Act{Power: Subject, Issuer: idp, Claims: sub("a"), Block: true})
	cut := w.event("e2", Act{Power: Subject, Issuer: idp, Claims: sub("b"), Cutoff: w.clock.Now()})
	w.wantState(d, block, Revoked)
	w.wantState(d, cut, Revoked)
	w.clock.Advance(time.Hour)
	w.wantState(d, block, Already)
	w.wantState(d, cut, Already)

	admin := ledger.Caller{Name: "alice", Roles: []ledger.Role{ledger.Operator}}
	items, _ := w.ledger.List(ledger.Query{Limit: 10})
	for _, i := range items {
		if _, err := w.authority.Restore(t.Context(), &admin, i.ID.String()); err != nil {
			t.Fatal(err)
		}
	}
	w.wantState(d, block, Already)
	w.wantState(d, cut, Already)
	w.wantInForce()
	w = w.restarted()
	d = w.door(may(Powers...))
	w.wantState(d, block, Already)
	w.wantInForce()

	// The same event without a time, and another event of the same time.
	block.At = time.Time{}
	w.wantState(d, block, Already)
	w.wantState(d, w.event("e3", block.Acts...), Revoked)
}

// The committer tells a repetition too, because two nodes may get the same event at
// the same moment.
func TestLedgerTakesARepetitionForOne(t *testing.T) {
	w := newWorld(t)
	caller := ledger.Caller{Name: "intake:kc", Roles: []ledger.Role{ledger.Operator}}
	order := func(once bool) *ledger.Order {
		r := &revocation.Request{Issuer: idp, Claims: sub("a"), Block: true, Reason: "event t; id e; at 2026-11-24T07:00:00Z"}
		return &ledger.Order{Action: ledger.ActRevoke, Lines: []ledger.Line{{Request: r}}, Once: once}
	}
	first, err := w.authority.Revoke(t.Context(), &caller, order(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.authority.Restore(t.Context(), &caller, first.IDs[0].String()); err != nil {
		t.Fatal(err)
	}
	again, err := w.authority.Revoke(t.Context(), &caller, order(true))
	if err != nil || again.Fresh != 0 || again.IDs[0] != first.IDs[0] {
		t.Errorf("a repetition: got %+v and %v, want revocation %s", again, err, first.IDs[0])
	}
	w.wantInForce()
	caller.Name = "intake:rival"
	if other, err := w.authority.Revoke(t.Context(), &caller, order(true)); err != nil || other.Fresh != 1 {
		t.Errorf("the same by another intake: got %+v and %v, want a revocation", other, err)
	}
	caller.Name = "intake:kc"
	if plain, err := w.authority.Revoke(t.Context(), &caller, order(false)); err != nil || plain.Fresh != 1 {
		t.Errorf("not once: got %+v and %v, want a revocation", plain, err)
	}
}

func TestDoorWithoutAnIDTellsEventsByTheirTime(t *testing.T) {
	w := newWorld(t)
	d := w.door(may(Powers...))
	first := w.event("", Act{Power: Subject, Issuer: idp, Claims: sub("a"), Block: true})
	w.wantState(d, first, Revoked)
	w.clock.Advance(time.Minute)
	w.wantState(d, first, Already)
	w.wantState(d, w.event("", first.Acts...), Revoked)
}

func TestDoorTakesARepetitionAtTheSameTimeForOne(t *testing.T) {
	w := newWorld(t)
	d := w.door(may(Powers...))
	e := w.event("e1", Act{Power: Subject, Issuer: idp, Claims: sub("a"), Block: true})
	outs := make(chan Outcome)
	for range 8 {
		go func() { out, _ := d.Take(t.Context(), e); outs <- out }()
	}
	for range 8 {
		if out := <-outs; out.State != Revoked && out.State != Already {
			t.Errorf("one of eight: got %+v, want revoked or already", out)
		}
	}
	w.wantState(d, w.event("e2", Act{Power: Subject, Issuer: idp, Claims: sub("a"), Undo: true}), Undone)
	w.wantInForce()
	w.wantState(d, e, Already)
}

func TestDoorCompletesAnEventThatWasTakenInPart(t *testing.T) {
	w := newWorld(t)
	d := w.door(nil)
	appends := 0
	w.log.FailAppend = func() error {
		if appends++; appends == 2 {
			return errBroken
		}
		return nil
	}
	e := w.event("e1",
		Act{Power: Subject, Issuer: idp, Claims: sub("a"), Cutoff: w.clock.Now()},
		Act{Power: Session, Issuer: idp, Claims: claim("sid", "s")})
	if _, err := d.Take(t.Context(), e); !errors.Is(err, errBroken) {
		t.Fatalf("the second append fails: got %v, want its error", err)
	}
	w.wantState(d, e, Revoked)
	w.wantInForce("[sub:a] before 1s by intake:kc", "[sid:s] by intake:kc")
	w.wantState(d, e, Already)
}

func TestDoorIsWeighedLikeAnybody(t *testing.T) {
	subject := Act{Power: Subject, Claims: sub("a")}
	for _, c := range []struct {
		name   string
		act    Act
		hits   uint64 // of 1000 requests; the limit is 200
		silent bool   // no replica answers
		want   State
	}{
		{"a subject below the share", subject, 199, false, Revoked},
		{"a subject above the share", subject, 201, false, Held},
		{"a subject above the share, blocked", Act{Power: Subject, Claims: sub("a"), Block: true}, 201, false, Held},
		{"a client above the share", Act{Power: Client, Claims: claim("azp", "web")}, 201, false, Held},
		{"a key above the share", Act{Power: KeyID, KeyID: "k"}, 201, false, Held},
		{"all above the share", Act{Power: All, All: true}, 900, false, Revoked},
		{"every token by a claim", Act{Power: All, Claims: claim("tenant", "acme")}, 900, false, Revoked},
		{"a session above the share", Act{Power: Session, Claims: claim("sid", "s")}, 900, false, Revoked},
		{"a subject of no known weight", subject, 0, true, Revoked},
		{"a mapped subject of no known weight", Act{Power: Subject, Claims: claim("email", "a@b")}, 0, true, Revoked},
		{"a client of no known weight", Act{Power: Client, Claims: claim("azp", "web")}, 0, true, Revoked},
		{"a key of no known weight", Act{Power: KeyID, KeyID: "k"}, 0, true, Revoked},
		{"all of no known weight", Act{Power: All, All: true}, 0, true, Revoked},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.hit(c.hits)
			if c.silent {
				w.silent()
			}
			c.act.Issuer = idp
			w.wantState(w.door(may(Powers...)), w.event("e", c.act), c.want)
			if n := len(w.inForce()); (n == 1) != (c.want == Revoked) {
				t.Errorf("got %d revocations in force, want one only if revoked", n)
			}
		})
	}
}

// A map that names a claim which every token has gives no power over every token.
func TestDoorHoldsAMappedClaimThatEveryTokenHas(t *testing.T) {
	w := newWorld(t)
	d := w.door(func(o *Options) { o.Map, o.May = Map{NameUser: pointer(t, "tenant")}, []Power{Subject, Block} })
	for _, block := range []bool{false, true} {
		w.wantState(d, w.event("e", Act{Power: Subject, Issuer: idp, Claims: claim("tenant", "acme"), Block: block}), Held)
	}
	w.wantInForce()
}

func TestDoorRevokesForAnIssuerThatNoReplicaAccepts(t *testing.T) {
	w := newWorld(t)
	d := w.door(func(o *Options) { o.Issuers = []string{idp, other} })
	w.wantState(d, w.event("e", Act{Power: Subject, Issuer: other, Claims: sub("a"), Cutoff: w.clock.Now()}), Revoked)
	w.wantInForce("[sub:a] before 1s by intake:kc")
}

func TestDoorInDryRunRevokesNothing(t *testing.T) {
	w := newWorld(t)
	wet := w.door(may(Powers...))
	w.wantState(wet, w.event("e1", Act{Power: Subject, Issuer: idp, Claims: sub("b"), Block: true}), Revoked)
	d := w.door(func(o *Options) { o.May, o.DryRun = Powers, true })
	w.hit(900)
	w.wantState(d, w.event("e2", Act{Power: Subject, Issuer: idp, Claims: sub("a"), Block: true}), DryRun)
	w.wantState(d, w.event("e3", Act{Power: Subject, Issuer: idp, Claims: sub("b"), Undo: true}), DryRun)
	w.wantState(d, w.event("e4", Act{Power: Subject, Issuer: other, Claims: sub("b")}), Refused)
	w.wantInForce("[sub:b] block by intake:kc")
	for _, action := range []string{ledger.ActRevoke, ledger.ActRestore} {
		w.wantAudited("the rehearsal of "+action, func(e *ledger.AuditEntry) bool {
			return e.By == "intake:kc" && e.Action == action && e.Outcome == ledger.DryRun && e.Target != nil && e.Reason != ""
		})
	}
}

func TestDoorIgnoresAnEventWithoutEffects(t *testing.T) {
	w := newWorld(t)
	out := w.wantState(w.door(nil), &Event{ID: "e", Type: "verification", Note: "it is a test of the stream"}, Ignored)
	if out.Detail != "it is a test of the stream" {
		t.Errorf("got the detail %q, want the note", out.Detail)
	}
}

func TestDoorBoundsTheEffectsOfAnEvent(t *testing.T) {
	w := newWorld(t)
	acts := make([]Act, maxActs+1)
	for i := range acts {
		acts[i] = Act{Power: Subject, Issuer: idp, Claims: sub("a"), Cutoff: w.clock.Now()}
	}
	w.wantState(w.door(nil), w.event("e", acts...), Refused)
	w.wantInForce()
}

func TestDoorBoundsTheAuditOfStrangers(t *testing.T) {
	w := newWorld(t)
	d := w.door(nil)
	for range 1000 {
		d.Turn(t.Context(), "192.0.2.1", errors.New("no key of the issuer has made the signature\n\u202e"))
	}
	if n := len(w.audit()); n == 0 || n > 30 {
		t.Errorf("a thousand requests of a stranger: got %d entries of the audit, want 1 to 30", n)
	}
	w.wantAudited("of the stranger", func(e *ledger.AuditEntry) bool {
		return e.From == "192.0.2.1" && e.By == "intake:kc" && e.Outcome == ledger.Refused && e.Detail == "no key of the issuer has made the signature\uFFFD\uFFFD"
	})
	if n := d.Status().Counts["turned"]; n != 1000 {
		t.Errorf("got %d turned requests in the counts, want 1000", n)
	}
	w.wantState(d, w.event("e", Act{Power: Subject, Issuer: other, Claims: sub("a")}), Refused)
	w.wantAudited("the refusal of a real event after them", func(e *ledger.AuditEntry) bool { return e.Outcome == ledger.Denied })
}
