package watch

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"rescind/authz"
	"rescind/revocation"
	"rescind/revocation/insight"
)

// TestDetectors sends each detector calm traffic and then unusual traffic. The
// detector alone raises alerts, and for the unusual traffic alone.
func TestDetectors(t *testing.T) {
	for _, c := range []detectorCase{
		{
			detector: insight.RevokedTokenUsed,
			calm: func(r *rig) {
				r.see(seen{jti: "a", repeat: 100}, seen{jti: "a", reason: authz.Expired}, seen{jti: "b", reason: authz.TooOld})
			},
			unusual: func(r *rig) { r.see(seen{jti: "a", reason: authz.Revoked}) },
		},
		{
			detector: insight.DistrustedKeyUsed,
			calm:     func(r *rig) { r.see(seen{jti: "a", kid: "k1", repeat: 100}) },
			unusual: func(r *rig) {
				r.see(seen{jti: "a", kid: "k1", reason: authz.Revoked, by: revocation.KindKeyID})
			},
		},
		burstCase(insight.BadSignatures, authz.BadSignature, authz.UnknownKey),
		burstCase(insight.UnknownKeys, authz.UnknownKey, authz.UnsupportedAlgorithm),
		burstCase(insight.WrongAlgorithms, authz.UnsupportedAlgorithm, authz.BadSignature),
		{
			detector: insight.ManyNetworks,
			calm: func(r *rig) {
				for n := range 40 { // five within the window, however many in all
					r.see(seen{jti: "a", subject: "alice", from: fmt.Sprintf("198.51.%d.7", n)})
					time.Sleep(15 * time.Minute)
				}
				for n := range 40 { // hosts of one network
					r.see(seen{jti: "b", from: fmt.Sprintf("192.0.2.%d", n)}, seen{jti: "c", from: fmt.Sprintf("2001:db8::%d:1", n)})
					time.Sleep(time.Minute)
				}
				for n := range 40 { // other tokens of one subject
					r.see(seen{jti: fmt.Sprint(n), subject: "bob", from: fmt.Sprintf("198.51.%d.7", n)})
				}
			},
			unusual: func(r *rig) {
				for n := range 6 {
					r.see(seen{jti: "x", from: fmt.Sprintf("203.0.%d.1", n)})
					time.Sleep(9 * time.Minute)
				}
			},
		},
		{
			detector: insight.TwoNetworksAtOnce,
			change:   func(s *Settings) { s.NetworksPerToken = 0 },
			calm: func(r *rig) {
				// A client that changes networks, with a straggler, now and then.
				for range 5 {
					r.see(seen{jti: "a", from: "198.51.100.1"}, seen{jti: "a", from: "203.0.113.1"}, seen{jti: "a", from: "198.51.100.1"})
					time.Sleep(time.Minute)
				}
				// A client with IPv4 and IPv6.
				for range 20 {
					r.see(seen{jti: "b", from: "198.51.100.1"}, seen{jti: "b", from: "2001:db8::1"})
					time.Sleep(time.Second)
				}
				// From one place to another, slowly.
				for range 5 {
					r.see(seen{jti: "c", from: "198.51.100.1"})
					time.Sleep(time.Minute)
					r.see(seen{jti: "c", from: "203.0.113.1"})
					time.Sleep(time.Minute)
				}
			},
			unusual: func(r *rig) {
				for range 2 {
					r.see(seen{jti: "x", from: "198.51.100.1"})
					time.Sleep(time.Second)
					r.see(seen{jti: "x", from: "203.0.113.1"})
					time.Sleep(time.Second)
				}
			},
		},
		{
			detector: insight.SubjectRate,
			calm: func(r *rig) {
				// Much, but as always; and twenty times the usual, but little.
				for n := range 30 {
					r.see(seen{subject: "batch", jti: "a", repeat: 1000})
					r.settle()
					if n == 20 {
						r.see(seen{subject: "alice", jti: "b", repeat: 200})
					}
					r.see(seen{subject: "alice", jti: "b", repeat: 10}, seen{subject: fmt.Sprint("new", n), jti: "c", repeat: 1000})
					time.Sleep(time.Minute)
				}
			},
			unusual: func(r *rig) {
				for range 3 { // 450 a minute, where 310 would do
					r.see(seen{subject: "alice", jti: "b", repeat: 150})
					r.settle()
				}
			},
		},
		{
			detector: insight.TokenLifetime,
			calm: func(r *rig) {
				// Nothing is usual yet, then there are 2 in 100 that live long.
				r.see(seen{jti: "first", life: 24 * time.Hour, issuer: other})
				for n := range 300 {
					life := 10 * time.Minute
					if n%50 == 0 {
						life = 8 * time.Hour
					}
					r.see(seen{jti: fmt.Sprint("o", n), issuer: other, life: life}, seen{jti: fmt.Sprint("i", n), life: 10 * time.Minute})
				}
				time.Sleep(2 * time.Second)
				r.see(seen{jti: "x", issuer: other, life: 8 * time.Hour}, seen{jti: "y", life: 50 * time.Minute}, seen{jti: "z", noIat: true, life: 100 * time.Hour})
			},
			unusual: func(r *rig) { r.see(seen{jti: "long", life: 8 * time.Hour}) },
		},
	} {
		t.Run(string(c.detector), func(t *testing.T) {
			bubble(t, c.change, func(r *rig) {
				c.calm(r)
				r.wants()
				c.unusual(r)
				r.wants(c.detector)
				if n := r.figure("rescind_watch_dropped_total"); n > 0 {
					t.Errorf("detector %s: got %v decisions dropped, want none", c.detector, n)
				}
			})
		})
		t.Run(string(c.detector)+" off", func(t *testing.T) {
			if c.detector == insight.RevokedTokenUsed || c.detector == insight.DistrustedKeyUsed {
				t.Skip("is always on")
			}
			bubble(t, func(s *Settings) {
				s.NetworksPerToken, s.AtOnce, s.Failures, s.SubjectRate, s.LifetimeFactor = 0, 0, 0, 0, 0
			}, func(r *rig) {
				c.calm(r)
				c.unusual(r)
				r.wants()
			})
		})
	}
}

type detectorCase struct {
	detector insight.Detector
	change   func(*Settings)
	calm     func(*rig)
	unusual  func(*rig)
}

func burstCase(d insight.Detector, reason, another authz.Reason) detectorCase {
	return detectorCase{
		detector: d,
		calm: func(r *rig) {
			for range 5 { // 99 a minute from one network
				r.see(seen{nothing: true, reason: reason, repeat: 99}, seen{nothing: true, reason: another, repeat: 99})
				r.see(seen{nothing: true, reason: authz.Malformed, repeat: 500}, seen{nothing: true, reason: authz.NoToken, repeat: 500})
				time.Sleep(time.Minute + time.Second)
			}
			for n := range 99 { // 990 a minute from everywhere
				r.see(seen{nothing: true, reason: reason, from: fmt.Sprintf("198.51.%d.1", n), repeat: 10})
			}
			// of no issuer that is configured
			time.Sleep(time.Minute + time.Second)
		},
		unusual: func(r *rig) { r.see(seen{nothing: true, reason: reason, repeat: 100}) },
	}
}

func TestBurstFromEverywhere(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		for n := range 200 {
			r.see(seen{nothing: true, reason: authz.BadSignature, from: fmt.Sprintf("198.51.%d.1", n), repeat: 5})
		}
		got := r.alerts(insight.BadSignatures)
		if len(got) != 1 || got[0].Count != 1000 || got[0].Issuer != idp || got[0].Subject != "" {
			t.Fatalf("1000 bad signatures from 200 networks: got %+v, want one alert that counts 1000 of %s without a subject", got, idp)
		}
		if want := `1000 tokens with a bad signature, said to be of issuer "https://idp.example/", came from all networks together within 1m0s.`; got[0].Summary != want {
			t.Errorf("1000 bad signatures from 200 networks: got the summary %q, want %q", got[0].Summary, want)
		}
	})
}

// TestRevokedIsToldAtOnce uses a revoked token. Its alert does not wait for others.
func TestRevokedIsToldAtOnce(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.see(seen{jti: "a"})
		time.Sleep(time.Millisecond)
		begun := time.Now()
		told := make(chan insight.Alert, 1)
		r.SetSink(func(a insight.Alert) { told <- a })
		r.see(seen{jti: "stolen", subject: "alice", session: "s1", client: "web", kid: "k1", policy: "reports", from: "203.0.113.9", reason: authz.Revoked})
		a := <-told
		if took := time.Since(begun); took > time.Millisecond {
			t.Errorf("use of a revoked token: got the alert after %v, want it within 1ms", took)
		}
		if a.Key == "" {
			t.Error("use of a revoked token: got an alert without a key, want one with a key")
		}
		a.Key = ""
		want := insight.Alert{
			Detector: insight.RevokedTokenUsed, First: begun.UTC(), Last: begun.UTC(), Count: 1, Issuer: idp, Subject: "alice", TokenID: "stolen",
			Session: "s1", Client: "web", KeyID: "k1", Policy: "reports", RevocationID: "r7.1", Networks: []string{"203.0.113.0/24"},
			Summary: `A revoked token of subject "alice" was presented again, from 203.0.113.0/24.`,
		}
		if fmt.Sprint(a) != fmt.Sprint(want) {
			t.Errorf("use of a revoked token:\ngot  %+v\nwant %+v", a, want)
		}
	})
}

// TestAlertsGather hands out the first sighting at once and gathers later ones.
func TestAlertsGather(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		for range 100 { // ten seconds
			r.see(seen{jti: "a", reason: authz.Revoked, repeat: 10})
			time.Sleep(100 * time.Millisecond)
		}
		r.see(seen{jti: "b", reason: authz.Revoked})
		time.Sleep(10 * time.Second)
		got := r.alerts(insight.RevokedTokenUsed)
		total := uint64(0)
		byKey := map[string]int{}
		for _, a := range got {
			total += a.Count
			byKey[a.Key]++
			if a.Last.Before(a.First) || a.First.IsZero() {
				t.Errorf("uses of revoked tokens: got an alert from %v to %v, want both times in order", a.First, a.Last)
			}
		}
		if total != 1001 || len(byKey) != 2 || len(got) > 5 {
			t.Errorf("1000 uses of token a and one of b: got %d sightings in %d alerts of %d keys, want 1001 in at most 5 of 2", total, len(got), len(byKey))
		}
		if n := r.figure("rescind_alerts_total"); n != 1001 {
			t.Errorf("1000 uses of token a and one of b: got rescind_alerts_total %v, want 1001", n)
		}
	})
}

// TestAlertsAreBounded floods a detector. One summary counts the sightings beyond the bound.
func TestAlertsAreBounded(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		for n := range 20_000 {
			r.see(seen{jti: fmt.Sprint(n), reason: authz.Revoked})
			if n%1000 == 0 {
				r.settle()
			}
		}
		time.Sleep(10 * time.Second)
		got := r.alerts(insight.RevokedTokenUsed)
		total := uint64(0)
		for _, a := range got {
			total += a.Count
		}
		if total != 20_000 || len(got) > maxFresh+5 {
			t.Errorf("20000 revoked tokens: got %d sightings in %d alerts, want 20000 in at most %d", total, len(got), maxFresh+5)
		}
		last := got[len(got)-1]
		if last.TokenID != "" || last.Issuer != idp || last.Summary == "" {
			t.Errorf("20000 revoked tokens: got the last alert %+v, want a summary for %s without a token", last, idp)
		}
		time.Sleep(2 * forgetAfter) // and then they are told one by one again
		r.see(seen{jti: "x", reason: authz.Revoked})
		if got = r.alerts(insight.RevokedTokenUsed); got[len(got)-1].TokenID != "x" {
			t.Errorf("token x after a pause: got the last alert %+v, want one about token x", got[len(got)-1])
		}
	})
}

func TestCloseHandsOutPendingAlerts(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.see(seen{jti: "a", reason: authz.Revoked})
		r.settle()
		r.see(seen{jti: "a", reason: authz.Revoked, repeat: 4})
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r.see(seen{jti: "a", reason: authz.Revoked}) // to no effect
		if got := r.alerts(insight.RevokedTokenUsed); len(got) != 2 || got[1].Count != 4 {
			t.Errorf("5 uses and Close: got %+v, want a second alert that counts 4", got)
		}
		if _, err := r.Answer("advice", nil); err == nil {
			t.Error("advice after Close: got an answer, want an error")
		}
		if err := r.Close(); err != nil {
			t.Errorf("a second Close: got the error %v, want none", err)
		}
	})
}

// TestFailureBeginsAnew panics in the sink. The watcher starts again with an empty memory.
func TestFailureBeginsAnew(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.log = slog.New(slog.DiscardHandler)
		sink := *r.sink.Load()
		r.SetSink(func(insight.Alert) { panic("no") })
		r.see(seen{jti: "a", reason: authz.Revoked})
		r.settle()
		r.SetSink(sink)
		r.see(seen{jti: "a", reason: authz.Revoked})
		r.wants(insight.RevokedTokenUsed)
	})
}
