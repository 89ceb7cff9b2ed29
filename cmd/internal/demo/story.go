package demo

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"rescind/envoy"
	"rescind/envoy/envoytest"
)

// story is the script. Each step is one method.
type story struct {
	t *teller
	s *envoytest.Stack

	begun time.Time // when all parts were up

	at int // control node that gets the requests

	first, second, third string // tokens of alice: before the revocation, after it, after the rotation
	stolen               string // another token from before the revocation

	denied, letThrough int           // uses of revoked tokens
	revocations        int           // with an answer that they are in force everywhere
	slowest            time.Duration // of these, from the request to the answer
}

// play plays all steps in their order.
func (s *story) play(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		s.allowed, s.revoked, s.noticed, s.loggedInAgain, s.refreshed, s.disabled, s.rotated, s.nodeKilled, s.controlKilled, s.controlBack, s.lookedBack,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) allowed(ctx context.Context) (err error) {
	s.t.begin("Alice logs in, and Envoy lets her through")
	if s.first, err = s.s.Login(ctx, "alice"); err != nil {
		return err
	}
	if s.stolen, err = s.s.Login(ctx, "alice"); err != nil {
		return err
	}
	if err := s.visit(ctx, "alice's token", s.first, http.StatusOK); err != nil {
		return err
	}
	s.t.say("a client cannot choose its own identity:")
	s.t.request("GET / with alice's token and x-jwt-subject: root")
	a, err := s.s.Get(ctx, "/", s.first, "x-jwt-subject", "root")
	if err != nil {
		return err
	}
	seen, _ := a.Seen()
	subject := strings.Join(seen.Header.Values("X-Jwt-Subject"), ", ")
	s.t.answer(subject == "alice", "the upstream saw x-jwt-subject: "+subject, a.Took)
	if s.inProcess() {
		return s.answeredInside(ctx)
	}
	return nil
}

func (s *story) revoked(ctx context.Context) (err error) {
	s.t.begin("She is de-provisioned: revoked once, denied everywhere")
	var streamEnd <-chan time.Time
	if s.inProcess() {
		if err := s.confirming(ctx); err != nil {
			return err
		}
		if streamEnd, err = s.openStream(ctx); err != nil {
			return err
		}
	}
	begun := time.Now()
	inForce, err := s.revoke(ctx, "sub", "alice", false, "left the company")
	if err != nil {
		return err
	}
	if err := s.visit(ctx, "alice's token", s.first, http.StatusUnauthorized); err != nil {
		return err
	}
	denied := time.Since(begun)
	if s.inProcess() {
		if err := s.streamEnded(ctx, streamEnd, begun); err != nil {
			return err
		}
	}
	if err := s.askAll(ctx, "alice's token", s.first, "revoked"); err != nil {
		return err
	}
	s.t.say("from revoke to in force on every replica: %s; to denied by Envoy: %s", short(inForce), short(denied))
	return nil
}

func (s *story) loggedInAgain(ctx context.Context) (err error) {
	s.t.begin("She may come back: a new login is allowed, the old token is not")
	s.t.say("the revocation reaches tokens issued before the next full second, so wait for that second")
	err = s.t.wait(func() error {
		select {
		case <-time.After(time.Until(time.Now().Truncate(time.Second).Add(time.Second + 5*time.Millisecond))):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if err != nil {
		return err
	}
	if s.second, err = s.s.Login(ctx, "alice"); err != nil {
		return err
	}
	if err := s.visit(ctx, "the new token", s.second, http.StatusOK); err != nil {
		return err
	}
	return s.visit(ctx, "the old token", s.first, http.StatusUnauthorized)
}

func (s *story) rotated(ctx context.Context) (err error) {
	s.t.begin("The issuer rotates its signing key, unannounced")
	if err := s.s.Rotate(); err != nil {
		return err
	}
	if s.third, err = s.s.Login(ctx, "alice"); err != nil {
		return err
	}
	for _, token := range []struct {
		name, token string
		want        int
	}{
		{"a token of the new key", s.third, http.StatusOK},
		{"a token of the old key", s.second, http.StatusOK},
		{"the revoked token", s.first, http.StatusUnauthorized},
	} {
		if err := s.visit(ctx, token.name, token.token, token.want); err != nil {
			return err
		}
	}
	return nil
}

// nodeKilled kills the node that the replicas follow. If that node leads the log
// it kills another one, because an election takes up to nine seconds.
func (s *story) nodeKilled(ctx context.Context) error {
	s.t.begin("One of the three control nodes dies: revoking goes on")
	leader, err := s.s.Leader(ctx)
	if err != nil {
		return err
	}
	victim := 0
	if victim == leader {
		victim = 1
	}
	s.kill(victim)
	s.at = leader
	sid, err := envoytest.Claim(s.third, "sid")
	if err != nil {
		return err
	}
	if _, err := s.revoke(ctx, "sid", sid, false, "lost laptop"); err != nil {
		return err
	}
	if err := s.visit(ctx, "the token of that session", s.third, http.StatusUnauthorized); err != nil {
		return err
	}
	return s.visit(ctx, "her other session", s.second, http.StatusOK)
}

func (s *story) controlKilled(ctx context.Context) error {
	s.t.begin("The other two die as well: no decision changes")
	for i, p := range s.s.Control {
		if p.Running() {
			s.kill(i)
		}
	}
	for _, token := range []struct {
		name, token string
		want        int
	}{
		{"the revoked token", s.first, http.StatusUnauthorized},
		{"the token of the lost laptop", s.third, http.StatusUnauthorized},
		{"a good token", s.second, http.StatusOK},
	} {
		if err := s.visit(ctx, token.name, token.token, token.want); err != nil {
			return err
		}
	}
	return s.askAll(ctx, "the revoked token", s.first, "revoked")
}

func (s *story) kill(node int) {
	s.t.request("kill -9 " + envoytest.NodeName(node))
	begun := time.Now()
	s.s.Control[node].Kill()
	s.t.answer(true, "gone", time.Since(begun))
}

func (s *story) controlBack(ctx context.Context) error {
	s.t.begin("They come back: nothing is lost, and revoking goes on")
	s.t.request("start the control nodes, and wait until they agree")
	begun := time.Now()
	err := s.t.wait(func() error {
		for i := range s.s.Control {
			if err := s.s.StartControl(ctx, i); err != nil {
				return err
			}
		}
		for i := range s.s.Control {
			if err := s.s.WaitControl(ctx, i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.t.answer(true, "all ready", time.Since(begun))
	if err := s.listed(ctx, "event http://schemas.openid.net/event/backchannel-logout", "left the company", "lost laptop", "stolen phone"); err != nil {
		return err
	}
	if err := s.followed(ctx); err != nil {
		return err
	}
	if err := s.visit(ctx, "the revoked token", s.first, http.StatusUnauthorized); err != nil {
		return err
	}
	if _, err := s.revoke(ctx, "sub", "alice", false, "it was her last day"); err != nil {
		return err
	}
	return s.visit(ctx, "the last good token", s.second, http.StatusUnauthorized)
}

// listed demands that the control endpoint has exactly these revocations. The
// reason of an event goes on with the name of the event.
func (s *story) listed(ctx context.Context, reasons ...string) error {
	s.t.request(fmt.Sprintf("GET %s/v1/revocations", s.s.ControlURLs[s.at]))
	var list struct{ Items []struct{ ID, Reason string } }
	a, err := s.s.AdminAt(ctx, s.at, http.MethodGet, "/v1/revocations", nil, &list)
	if err != nil {
		return err
	}
	var got, text []string
	for _, item := range list.Items {
		got = append(got, item.Reason)
		text = append(text, fmt.Sprintf("%s %q", item.ID, item.Reason))
	}
	slices.Sort(got)
	s.t.answer(slices.EqualFunc(got, reasons, strings.HasPrefix), "still there: "+strings.Join(text, ", "), a.Took)
	return nil
}

// visit sends a request through Envoy.
func (s *story) visit(ctx context.Context, name, token string, want int) error {
	s.t.request(fmt.Sprintf("GET %s/ with %s (%s)", s.s.GatewayURL, name, abbreviated(token)))
	a, err := s.s.Get(ctx, "/", token)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%d %s", a.Status, http.StatusText(a.Status))
	if seen, err := a.Seen(); err == nil && a.Status == http.StatusOK {
		text += ", the upstream saw x-jwt-subject: " + seen.Header.Get("X-Jwt-Subject")
	}
	s.t.answer(a.Status == want, text, a.Took)
	if want == http.StatusUnauthorized {
		s.count(a.Status == want)
	}
	return nil
}

// count counts a use of a revoked token.
func (s *story) count(denied bool) {
	if denied {
		s.denied++
	} else {
		s.letThrough++
	}
}

// revoke revokes through the admin API and waits until every replica has the
// revocation in force. It returns the time that this took.
func (s *story) revoke(ctx context.Context, claim string, value any, block bool, reason string) (time.Duration, error) {
	body := map[string]any{"issuer": s.s.Issuer.URL(), "claims": map[string]any{claim: value}, "block": block, "reason": reason}
	s.t.request(fmt.Sprintf("POST %s/v1/revocations?wait=all  %s=%v, %q", s.s.ControlURLs[s.at], claim, value, reason))
	var got struct {
		ID       string
		Replicas struct{ Applied, Total int }
	}
	a, err := s.s.AdminAt(ctx, s.at, http.MethodPost, "/v1/revocations?wait=all&timeout=10s", body, &got)
	if err != nil {
		return 0, err
	}
	right := a.Status == http.StatusCreated && got.Replicas.Applied == len(s.s.Replicas) && got.Replicas.Total == len(s.s.Replicas)
	s.t.answer(right, fmt.Sprintf("%d %s, %s durable and in force on %d of %d replicas",
		a.Status, http.StatusText(a.Status), got.ID, got.Replicas.Applied, got.Replicas.Total), a.Took)
	if right {
		s.revocations++
		s.slowest = max(s.slowest, a.Took)
	}
	return a.Took, nil
}

// askAll asks each replica about a revoked token, as Envoy does.
func (s *story) askAll(ctx context.Context, name, token, want string) error {
	for i, addr := range s.s.GRPC {
		s.t.request(fmt.Sprintf("Check by %s of %s", envoytest.ReplicaName(i), name))
		begun := time.Now()
		got, err := envoy.Check(ctx, addr, nil, envoy.Question{Token: token})
		if err != nil {
			return err
		}
		s.t.answer(got.Reason() == want, got.Reason(), time.Since(begun))
		s.count(!got.Allowed)
	}
	return nil
}

// followed waits until every replica follows the control endpoint again.
func (s *story) followed(ctx context.Context) error {
	s.t.request(fmt.Sprintf("GET %s/v1/replicas until all follow again", s.s.ControlURLs[s.at]))
	begun := time.Now()
	return s.until(ctx, "all replicas followed the control endpoint again", func() (bool, error) {
		var list struct{ Items []struct{ Connected bool } }
		if _, err := s.s.AdminAt(ctx, s.at, http.MethodGet, "/v1/replicas", nil, &list); err != nil {
			return false, err
		}
		connected := 0
		for _, r := range list.Items {
			if r.Connected {
				connected++
			}
		}
		if connected < len(s.s.Replicas) {
			return false, nil
		}
		s.t.answer(true, fmt.Sprintf("%d of %d", connected, len(s.s.Replicas)), time.Since(begun))
		return true, nil
	})
}

// conclude prints the conclusion of the story.
func (s *story) conclude() {
	s.t.write("\n")
	s.t.heading(fmt.Sprintf("Revoked tokens were used %d times: %d denied, %d let through. Each of the %d revocations was in force on every replica within %s.",
		s.denied+s.letThrough, s.denied, s.letThrough, s.revocations, short(s.slowest)))
}
