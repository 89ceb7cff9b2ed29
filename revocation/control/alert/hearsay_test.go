package alert

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"rescind/revocation/insight"
)

// TestHearsay reports an alert about an issuer that its replica does not accept.
// The inbox lists the alert and tells no action of it. A made-up alert cannot
// keep the action from being told of the real one, and does not choose its token.
func TestHearsay(t *testing.T) {
	for name, issuers := range map[string][]string{"another issuer": {"https://other.example.com/"}, "no issuers reported": nil, "no issuer accepted": {}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				action, webhook := &told{}, &told{}
				target := action.target("action")
				target.NoHearsay, target.OncePerKey = true, true
				in := open(t, Options{Targets: []Target{target, webhook.target("webhook")}})
				madeUp := alertOf(insight.RevokedTokenUsed, "k")
				madeUp.Subject, madeUp.Hearsay, madeUp.Credentials = "victim", false, []string{"ops"}
				if err := in.Take(t.Context(), Reporter{Replica: "replica-x", Credential: "stolen", Issuers: issuers}, []insight.Alert{madeUp}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				got := in.List(Query{Limit: 1}).Items[0]
				if !got.Hearsay || fmt.Sprint(got.Credentials, got.Replicas) != "[stolen] [replica-x]" {
					t.Errorf("made up: got %+v, want hearsay of replica-x with the credential stolen", got)
				}
				if len(action.list()) != 0 || len(webhook.list()) != 1 {
					t.Errorf("made up: the action was told %v and the webhook %v, want the webhook alone", action.list(), webhook.list())
				}
				honest := alertOf(insight.RevokedTokenUsed, "k")
				honest.Subject = "mallory"
				take(t, in, "replica-a", honest)
				synctest.Wait()
				got = in.List(Query{Limit: 1}).Items[0]
				if got.Hearsay || got.Subject != "mallory" || got.Count != 2 || fmt.Sprint(got.Credentials) != "[replicas stolen]" {
					t.Errorf("then an honest report: got %+v, want its subject and both credentials", got)
				}
				if !slices.Equal(action.list(), []string{"k×2"}) || len(webhook.list()) != 1 {
					t.Errorf("then an honest report: the action was told %v and the webhook %v, want each once", action.list(), webhook.list())
				}
				time.Sleep(2 * DefaultWindow) // a later window, with the same key
				if err := in.Take(t.Context(), Reporter{Replica: "replica-x", Credential: "stolen", Issuers: issuers}, []insight.Alert{alertOf(insight.RevokedTokenUsed, "k2")}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * DefaultWindow)
				take(t, in, "replica-a", alertOf(insight.RevokedTokenUsed, "k2"))
				synctest.Wait()
				if got := action.list(); len(got) != 2 || got[1] != "k2×1" {
					t.Errorf("hearsay in an earlier window: the action was told %v, want the honest report too", got)
				}
			})
		})
	}
}

// TestHearsayOfAnotherNode hears of hearsay that another node keeps.
func TestHearsayOfAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		action := &told{}
		target := action.target("action")
		target.NoHearsay = true
		in := open(t, Options{Targets: []Target{target}})
		madeUp := []insight.Alert{alertOf(insight.RevokedTokenUsed, "k")}
		elsewhere := open(t, Options{})
		if err := elsewhere.Take(t.Context(), Reporter{Replica: "replica-x", Credential: "stolen"}, madeUp); err != nil {
			t.Fatal(err)
		}
		in.TakeFromNode("replica-x", madeUp)
		if got := in.List(Query{Limit: 1}).Items[0]; !got.Hearsay || fmt.Sprint(got.Credentials) != "[stolen]" {
			t.Errorf("heard of: got %+v, want hearsay by the credential stolen", got)
		}
		take(t, in, "replica-a", alertOf(insight.RevokedTokenUsed, "k"))
		synctest.Wait()
		if got := action.list(); !slices.Equal(got, []string{"k×2"}) {
			t.Errorf("an honest report here: the action was told %v, want it once", got)
		}
	})
}
