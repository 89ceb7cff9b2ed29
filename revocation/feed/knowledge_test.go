package feed

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"rescind/revocation"
	"rescind/revocation/feed/feedpb"
)

func accepting(issuers ...string) *feedpb.Profile {
	p := &feedpb.Profile{}
	for _, i := range issuers {
		p.Issuers = append(p.Issuers, &feedpb.AcceptedIssuer{
			Issuer: i, Audiences: []string{"api"}, Claims: []*feedpb.ClaimCondition{{Name: "typ", Values: []string{"Bearer"}}},
		})
	}
	return p
}

func helloWith(name string, p *feedpb.Profile) *feedpb.Hello {
	h := newHello(name, "log-1", 0)
	h.Profile, h.Rules, h.Version = p, revocation.Rules, "2.0"
	return h
}

// names returns the issuers that are known; "*" stands for every issuer.
func names(s *Server) (out []string) {
	k := s.Accepted()
	if k.Every {
		out = append(out, "*")
	}
	for _, a := range k.Issuers {
		out = append(out, a.Issuer)
	}
	return out
}

func wantIssuers(t *testing.T, when string, s *Server, want ...string) {
	t.Helper()
	time.Sleep(2 * publishPause)
	if got := names(s); !slices.Equal(got, want) {
		t.Errorf("%s: the known issuers are %q, want %q", when, got, want)
	}
}

func TestIssuersAreKnownForTheRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		log := newLog("log-1")
		log.retains = 2 * refreshTime
		s, net := serveInMemory(t, log, ServerOptions{Memory: Folder(dir)})
		if k := s.Accepted(); k.AnyReplica || k.Settled || k.Unknown("https://a/") {
			t.Errorf("before any replica: got %+v, want nothing known and nothing refused", k)
		}
		a, hangUp := net.call(t, helloWith("replica-a", accepting("https://a/", "https://b/")))
		wantIssuers(t, "one replica", s, "https://a/", "https://b/")
		if got := s.Accepted().Of("https://a/"); len(got) != 1 || !slices.Equal(got[0].Audiences, []string{"api"}) || !slices.Equal(got[0].Claims["typ"], []string{"Bearer"}) {
			t.Errorf("configuration of https://a/: got %+v, want its audience and its condition", got)
		}
		if k := s.Accepted(); k.Unknown("https://c/") {
			t.Error("within the first seconds: https://c/ is unknown, want no refusal yet")
		}
		time.Sleep(settleTime)
		for issuer, want := range map[string]bool{"https://a/": false, "https://b/": false, "https://c/": true, "https://a": true} {
			if k := s.Accepted(); k.Unknown(issuer) != want {
				t.Errorf("Unknown(%q) = %v, want %v", issuer, !want, want)
			}
		}

		// A reload adds an issuer and takes one away: both stay known.
		a.say(&feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Profile{Profile: accepting("https://b/", "https://c/")}})
		wantIssuers(t, "after a reload", s, "https://a/", "https://b/", "https://c/")
		if list := s.Replicas(); len(list[0].Issuers) != 2 || list[0].Issuers[1].Issuer != "https://c/" || list[0].Version != "2.0" {
			t.Errorf("the list has %+v, want the version and the issuers after the reload", list)
		}

		// A restart forgets nothing.
		hangUp()
		time.Sleep(time.Second)
		s.Close()
		s, net = serveInMemory(t, log, ServerOptions{Memory: Folder(dir)})
		wantIssuers(t, "after a restart", s, "https://a/", "https://b/", "https://c/")
		time.Sleep(settleTime)
		if k := s.Accepted(); !k.Unknown("https://d/") {
			t.Error("after a restart https://d/ is not unknown, want it refused")
		}

		// A connected replica stays known, the others end with the retention.
		o := inMemory(net)
		o.Profile = NewProfile([]revocation.AcceptedIssuer{{Issuer: "https://b/"}})
		following(t, openFollower(t), o)
		time.Sleep(2*refreshTime + log.retains)
		wantIssuers(t, "after the retention", s, "https://b/")
		o.Profile.Set([]revocation.AcceptedIssuer{{Issuer: "https://e/"}})
		wantIssuers(t, "after a reload of the replica", s, "https://b/", "https://e/")
	})
}

func TestAReplicaOfTheFirstEditionAcceptsEveryIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		log := newLog("log-1")
		s, net := serveInMemory(t, log, ServerOptions{Memory: Folder(dir)})
		time.Sleep(settleTime)
		_, hangUp := net.call(t, newHello("replica-a", "log-1", 0))
		net.call(t, helloWith("replica-b", accepting("https://b/")))
		wantIssuers(t, "one of each edition", s, "*", "https://b/")
		if k := s.Accepted(); k.Unknown("https://c/") {
			t.Error("https://c/ is unknown beside a replica of the first edition, want it accepted")
		}
		hangUp()
		time.Sleep(2 * lostTime)
		wantIssuers(t, "after it is gone", s, "*", "https://b/")

		// The same replica, upgraded, reports its issuers.
		net.call(t, helloWith("replica-a", accepting("https://a/")))
		wantIssuers(t, "after its upgrade", s, "https://a/", "https://b/")
	})
}

func TestAProfileThatIsTooLargeRefusesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged lines
		s, net := serveInMemory(t, newLog("log-1"), ServerOptions{Logger: logged.logger()})
		net.call(t, helloWith("replica-a", accepting(string(make([]byte, maxProfile)))))
		wantIssuers(t, "with a large profile", s, "*")
		if list := s.Replicas(); len(list) != 1 || !list[0].Connected {
			t.Errorf("a replica with a profile beyond %d bytes: replicas %+v, want it connected", maxProfile, list)
		}
	})
}

// TestMadeUpIssuersCostTheirOwnCredential lets one credential make up profiles:
// its remembered records are bounded, and other credentials lose nothing.
func TestMadeUpIssuersCostTheirOwnCredential(t *testing.T) {
	k := newKnowledge(time.Hour)
	see := func(credential, issuer string) {
		p, err := newProfile([]acceptedIssuer{{Issuer: issuer}})
		if err != nil {
			t.Fatalf("the profile of %s: got %v, want no error", issuer, err)
		}
		k.see(credential, "replica", p)
	}
	see("good", "https://good/")
	for i := range 2 * maxKnown / 300 {
		see("bad", fmt.Sprintf("https://%0250d/", i))
	}
	view := k.issuers()
	if len(view.Of("https://good/")) != 1 {
		t.Error("after many issuers of one credential: https://good/ of another credential is forgotten, want it known")
	}
	if bytes := k.sizes["bad"]; bytes > maxKnown || bytes < maxKnown/2 {
		t.Errorf("the credential with many issuers has %d bytes remembered, want %d to %d", bytes, maxKnown/2, maxKnown)
	}
}

func TestNodesTellEachOtherTheIssuers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog("log-1")
		wire := &bus{receivers: map[string]func(string, []byte){}}
		s1, net1 := serveInMemory(t, log, ServerOptions{Nodes: on{wire, "n1"}, Others: 1})
		s2, _ := serveInMemory(t, log, ServerOptions{Nodes: on{wire, "n2"}, Others: 1})
		time.Sleep(time.Second)
		a, hangUp := net1.call(t, helloWith("replica-a", accepting("https://a/")))
		time.Sleep(time.Second)
		wantIssuers(t, "at the other node", s2, "https://a/")
		if list := s2.Replicas(); len(list) != 1 || list[0].Credential != "replicas" || list[0].Version != "2.0" || list[0].Rules != revocation.Rules || len(list[0].Issuers) != 1 {
			t.Errorf("at the other node the replica is %+v, want its credential, version, rules and issuers", list)
		}
		a.say(&feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Profile{Profile: accepting("https://b/")}})
		time.Sleep(time.Second)
		wantIssuers(t, "at the other node after a reload", s2, "https://a/", "https://b/")

		// A node that starts later hears about replicas that are gone.
		hangUp()
		time.Sleep(2 * lostTime)
		s3, _ := serveInMemory(t, log, ServerOptions{Nodes: on{wire, "n3"}, Others: 2})
		time.Sleep(time.Second)
		wantIssuers(t, "at a node that starts later", s3, "https://a/", "https://b/")
		wantIssuers(t, "at the first node", s1, "https://a/", "https://b/")
	})
}
