package test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// startInProcess starts a gateway with the module and one replica.
func startInProcess(t *testing.T) *envoytest.Stack {
	t.Helper()
	return startInProcessWith(t, envoytest.Options{})
}

func startInProcessWith(t *testing.T, o envoytest.Options) *envoytest.Stack {
	t.Helper()
	dir, err := moduleDir()
	if err != nil {
		t.Fatal(err)
	}
	o.Replicas, o.Module = 1, dir
	s := start(t, o)
	eventually.True(t, "Envoy is attached", func() bool { return strings.Contains(replicaMetrics(t, s), "rescind_known_envoys 1") })
	return s
}

func replicaMetrics(t *testing.T, s *envoytest.Stack) string {
	t.Helper()
	a, err := http.Get("http://" + s.HTTP[0] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// knownHits returns how many requests the gateway has answered by itself.
func knownHits(t *testing.T, s *envoytest.Stack) (n int) {
	t.Helper()
	for line := range strings.Lines(replicaMetrics(t, s)) {
		if after, ok := strings.CutPrefix(line, `rescind_known_requests_total{record="recorded"} `); ok {
			_, _ = fmt.Sscan(after, &n)
		}
	}
	return n
}

// becomeKnown sends requests until the gateway answers one by itself.
func becomeKnown(t *testing.T, s *envoytest.Stack, token string) {
	t.Helper()
	before := knownHits(t, s)
	eventually.True(t, "the gateway answers by itself", func() bool {
		wantStatus(t, s, "a good token", token, 200)
		return knownHits(t, s) > before
	})
}

func TestGatewayAnswersByItself(t *testing.T) {
	t.Parallel()
	s := startInProcess(t)
	alice, bob := login(t, s, "alice"), login(t, s, "bob")
	becomeKnown(t, s, alice)
	becomeKnown(t, s, bob)
	seen, err := got(t, s, "/x", alice).Seen()
	if err != nil || seen.Header.Get("X-Jwt-Subject") != "alice" {
		t.Errorf("the upstream saw %v, %v, want the headers of alice", seen, err)
	}
	seen, err = got(t, s, "/x", alice, "X-Jwt-Subject", "root").Seen()
	if err != nil || seen.Header.Get("X-Jwt-Subject") != "alice" {
		t.Errorf("a spoofed header: the upstream saw %v, %v, want the headers of alice", seen, err)
	}
	for path, want := range map[string]int{"/reports": 403, "/public": 200, "/x": 200} {
		if a := got(t, s, path, alice); a.Status != want {
			t.Errorf("GET %s: got %d, want %d", path, a.Status, want)
		}
	}
	revoked(t, s, map[string]any{"claims": map[string]any{"sub": "alice"}})
	wantStatus(t, s, "a revoked token", alice, 401)
	wantStatus(t, s, "a good token", bob, 200)
	eventually.True(t, "all decisions are counted", func() bool {
		return strings.Contains(replicaMetrics(t, s), `rescind_decisions_total{issuer="`+s.Issuer.URL()+`",policy="default",reason="ok"}`)
	})
}

// The promises of the module, and the tests that hold them. TestModule starts one Envoy
// for many of them, and has a part for each.
//
//  1. No request that begins after the acknowledgement of a revocation is allowed:
//     TestNothingIsAllowedAfterTheAcknowledgement with one worker of Envoy, and a part of
//     TestModule with two.
//  2. With ext_authz dead and the replica silent, standing still or killed, requests are
//     denied a second later: "a replica that stands still or is killed is given up", and
//     TestEnvoyAnswersForKnownTokensAlone of envoy/known for a replica that lives and is
//     silent.
//  3. No read is torn, and a reader that looks once is caught: `make -C envoy/module
//     check`, "no read is torn" and "no read is torn when writers are killed".
//  4. Memory is unmapped while workers use it, and no worker reads it later: the same
//     program, "lives of honest, lying and hostile replicas".
//  5. No byte of a table, a request or a message does harm: the same program, under the
//     sanitizers, and TestMessagesOfAnEnvoy and TestRingIsNotBelieved of envoy/known for
//     the replica.
//  6. The headers and the metadata are those of ext_authz: "the upstream and the access log
//     see the same as from ext_authz".
//  7. A token is known under its policy alone, and no other filter makes a request known: "a
//     token is known under its policy alone", "only the module says that a request is known",
//     and "a route with two policies is denied".
//  8. Nobody can truncate the table or map it writable, and unsealed memory, another user and
//     another layout are refused: TestMemoryIsSealed and TestServerGivesTheTableToEnvoyAlone
//     of envoy/known, and in the program of envoy/module "unsealed memory, another layout and
//     lying sizes are refused" and "the socket of another user is refused".
//  9. A decision before a revocation makes no token known after it, and tokens that are
//     bound, optional, observed or stale are never known: TestLateAdmission of
//     cmd/internal/replica, TestOffers of authz.
//  10. A full ring drops records and nothing else: TestRingFull of envoy/known.
//  11. Envoy refuses a module and a configuration that do not fit, and attaches to nothing
//     while it validates: TestEnvoyRefusesAModuleThatDoesNotFit. An Envoy that starts before
//     its replica, updates of listeners, and drains of both are parts of TestModule.
func TestModule(t *testing.T) {
	t.Parallel()
	g := startModuleRig(t, 2)
	t.Run("no 200 for a request that begins after the acknowledgement, with 2 workers", func(t *testing.T) { nothingAfterTheAcknowledgement(g.in(t)) })
	t.Run("the upstream and the access log see the same as from ext_authz", func(t *testing.T) { sameAsFromExtAuthz(g.in(t)) })
	t.Run("a token is known under its policy alone", func(t *testing.T) { onlyUnderItsPolicy(g.in(t)) })
	t.Run("only the module says that a request is known", func(t *testing.T) { onlyTheModuleSaysKnown(g.in(t)) })
	t.Run("a route with two policies is denied", func(t *testing.T) { twoPolicies(g.in(t)) })
	t.Run("updates of the listeners change nothing", func(t *testing.T) { updatesOfListeners(g.in(t)) })
	t.Run("a replica that stands still or is killed is given up", func(t *testing.T) { givesUp(g.in(t)) })
	t.Run("a replica that drains closes its table before it ends", func(t *testing.T) { closesBeforeItEnds(g.in(t)) })
	t.Run("an Envoy that drains answers for no revoked token", func(t *testing.T) { drainOfEnvoy(g.in(t)) })
	t.Run("an Envoy without a replica at its start denies until there is one", func(t *testing.T) { noReplicaAtStart(g.in(t)) })
}

// The long form of this test and of its part of TestModule makes 1,000 rounds each,
// and begins more than 1,200,000 requests after acknowledgements:
// RESCIND_LONG=1 go test -run 'AfterTheAcknowledgement|Module$/acknowledgement' -timeout 60m -v ./test
func TestNothingIsAllowedAfterTheAcknowledgement(t *testing.T) {
	t.Parallel()
	nothingAfterTheAcknowledgement(startModuleRig(t, 1))
}
