package main

import (
	"context"
	"strings"
	"testing"

	"rescind/jwks/jwt"
	"rescind/revocation"
	"rescind/revocation/control"
	"rescind/revocation/intake"
	"rescind/revocation/ledger"
	"rescind/revocation/store"
)

// shared is the shelf of a log.
type shared struct{ *store.Log }

func (s shared) Load(ctx context.Context, name string) ([]byte, uint64, error) {
	return s.LoadShared(ctx, name)
}

func (s shared) Save(ctx context.Context, name string, document []byte, version uint64) (uint64, error) {
	return s.SaveShared(ctx, name, document, version)
}

// holding returns an endpoint with an intake that holds two events.
func holding(t *testing.T) *endpoint {
	t.Helper()
	documents, err := store.Open(t.Context(), store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = documents.Close() })
	var door *intake.Door
	e := serve(t, func(p *serving) {
		p.authority.KnownIssuers = func() revocation.KnownIssuers {
			return revocation.KnownIssuers{AnyReplica: true, Every: true, Settled: true,
				Issuers: []revocation.AcceptedIssuer{{Issuer: idp, Claims: map[string][]string{"tenant": {"acme"}}}}}
		}
		p.intakes = func(a *ledger.Authority) *intake.Doors {
			door = intake.New(intake.Options{Name: "keycloak", Kind: "keycloak", Issuers: []string{idp}, Authority: a, Shelf: shared{documents},
				Map: intake.Map{intake.NameUser: jwt.MemberName("tenant")}})
			return intake.NewDoors("n1", shared{documents}, door)
		}
	})
	tenant, _ := revocation.ValueOf("acme")
	for _, id := range []string{"e1", "e2"} {
		out, err := door.Take(t.Context(), &intake.Event{ID: id, Type: "left", Acts: []intake.Act{{
			Power: intake.Subject, Issuer: idp, Claims: []revocation.Claim{{Name: "tenant", Value: tenant}},
		}}})
		if err != nil || out.State != intake.Held {
			t.Fatalf("event %s: got %+v and %v, want held", id, out, err)
		}
	}
	return e
}

func TestIntakesAndHeldEvents(t *testing.T) {
	e := holding(t)
	e.rescind("intakes").want(0, "STATE", "keycloak", "2 held", "2 events are held; rescind intakes held shows")
	var list struct{ Items []control.HeldEvent }
	e.rescind("intakes", "held", "-o", "json").want(0).json(&list)
	if len(list.Items) != 2 {
		t.Fatalf("got %+v, want two held events", list.Items)
	}
	first, second := list.Items[0].ID, list.Items[1].ID
	e.rescind("intakes", "held").want(0, first, second, "tenant=acme", "claims that every token of the issuer has")

	as := map[string]string{"RESCIND_CONTROL": e.url, "RESCIND_TOKEN": tokenOf("revoker")}
	rescind(t, as, "", "intakes", "release", first).want(1, "a held event takes the role operator")
	e.rescind("intakes", "release", first).want(0, "released "+first+": r")
	e.rescind("list", "--by", "intake:keycloak").want(0, "tenant=acme", "event left; id e1; at")
	e.rescind("intakes", "release", first).want(1, first+": no intake holds such an event", "rescind intakes held shows the IDs")
	e.rescind("intakes", "drop", second).want(0, "dropped "+second)
	e.rescind("intakes", "held").want(0, "no event is held")
	e.rescind("audit").want(0, ledger.ActRelease, ledger.ActDrop)

	e.rescind("intakes", "release").want(2, "the ID of a held event, as rescind intakes held shows it, is missing")
	e.rescind("intakes", "drop", "../x").want(2, "is not the ID of a held event")
	e.rescind("intakes", "hold").want(2)
}

func TestHeldEventsAreCompleted(t *testing.T) {
	e := holding(t)
	for _, verb := range []string{"release", "drop"} {
		got := e.rescind("__complete", "intakes", verb, "").want(0).out
		if strings.Count(got, "\tkeycloak, tenant=acme") != 2 {
			t.Errorf("the completion of %s: got\n%s\nwant two held events with their targets", verb, got)
		}
	}
	if got := e.rescind("__complete", "intakes", "").want(0).out; !strings.Contains(got, "held") || !strings.Contains(got, "release") || !strings.Contains(got, "drop") {
		t.Errorf("the completion of intakes: got\n%s\nwant its commands", got)
	}
}

func TestNoIntakes(t *testing.T) {
	serve(t).rescind("intakes").want(0, "there is no intake; control.yaml names them under intake")
}
