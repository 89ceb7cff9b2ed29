package ssf_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rescind/revocation/intake"
	"rescind/revocation/intake/ssf"
	"rescind/revocation/intake/ssf/stream"
	"rescind/revocation/intake/ssftest"
	"rescind/test/syncbuffer"
)

// direct calls the transmitter without a network, so that time can be that of a
// test.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), r.Context().Err()
}

func (r *rig) transmitter(by http.RoundTripper) *stream.Transmitter {
	r.t.Helper()
	tx, err := stream.Open(stream.Options{Issuer: r.tx.Issuer(), Transport: by, Credential: stream.Credential{
		TokenURL: r.tx.TokenURL(), ClientID: ssftest.ClientID, Secret: func() (string, error) { return ssftest.Secret, nil },
	}})
	if err != nil {
		r.t.Fatal(err)
	}
	return tx
}

// run runs a poller or a watch until the returned function is called.
func (r *rig) run(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	r.t.Cleanup(stop)
	return stop
}

func (r *rig) poll() (stop func()) { return r.pollBy(direct{r.tx.Handler()}, time.Second) }

// pollSeldom polls for a test whose time is long.
func (r *rig) pollSeldom() (stop func()) { return r.pollBy(direct{r.tx.Handler()}, 30*time.Second) }

func (r *rig) pollBy(by http.RoundTripper, interval time.Duration) (stop func()) {
	return r.run((&ssf.Poller{Receiver: r.receiver, Transmitter: r.transmitter(by), Interval: interval}).Run)
}

// polling runs a test of a poller, whose time is the test's.
func polling(t *testing.T, test func(*testing.T, *rig), settings ...setting) {
	t.Helper()
	r := transmit(t)
	synctest.Test(t, func(t *testing.T) {
		r.receive(t, settings...)
		test(t, r)
	})
}

func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestConformancePollAcknowledgesWhatIsDurable(t *testing.T) {
	polling(t, func(t *testing.T, r *rig) {
		id := r.tx.Send(ssftest.SessionRevoked, at(900_000_000), r.tx.Session("alice", "ALL"))
		r.poll()
		wait(2 * time.Second)
		r.wantInForce("sub=alice before 900000001")
		if acked, refused := r.tx.Settled(); !slices.Equal(acked, []string{id}) || len(refused) != 0 || r.tx.Waiting() != 0 {
			t.Errorf("got %v acknowledged and %v refused, want %s acknowledged", acked, refused, id)
		}
	})
}

func TestConformancePollDoesNotAcknowledgeWhatIsNotDurable(t *testing.T) {
	polling(t, func(t *testing.T, r *rig) {
		id := r.tx.Send(ssftest.SessionRevoked, at(900_000_000), r.tx.Session("alice", "ALL"))
		r.log.Lock()
		r.log.FailAppend = func() error { return errors.New("the disk is full") }
		r.log.Unlock()
		r.poll()
		wait(time.Minute)
		if acked, refused := r.tx.Settled(); len(acked)+len(refused) != 0 {
			t.Errorf("got %v acknowledged and %v refused, want neither", acked, refused)
		}
		if r.door.Status().Error == "" {
			t.Error("got no fault of the intake, want one")
		}
		r.log.Lock()
		r.log.FailAppend = nil
		r.log.Unlock()
		wait(3 * time.Minute)
		r.wantInForce("sub=alice before 900000001")
		if acked, _ := r.tx.Settled(); !slices.Equal(acked, []string{id}) {
			t.Errorf("got %v acknowledged once it was durable, want %s", acked, id)
		}
		if got := r.door.Status().Error; got != "" {
			t.Errorf("got the fault %q, want none any more", got)
		}
	})
}

func TestConformancePollRefusesBadEvents(t *testing.T) {
	polling(t, func(t *testing.T, r *rig) {
		good := r.tx.Send(ssftest.SessionRevoked, at(900_000_000), r.tx.Session("alice", "ALL"))
		want := map[string]string{}
		for _, c := range map[string]struct {
			claims map[string]any
			as     string // under another name
			cut    int
			forged bool
			code   string
		}{
			"another audience":  {claims: m{"aud": "other"}, code: "invalid_audience"},
			"another issuer":    {claims: m{"iss": "https://other.example"}, code: "invalid_issuer"},
			"no subject":        {claims: m{"sub_id": nil}, code: "invalid_request"},
			"another name":      {as: "name", code: "invalid_request"},
			"another signature": {forged: true, code: "invalid_key"},
			"a cut-off token":   {cut: 200, code: "invalid_request"},
		} {
			id, token := r.tx.Mint(ssftest.SessionRevoked, m{}, r.tx.Session("mallory", "ALL"), c.claims)
			if c.as != "" {
				id = c.as
			}
			if c.forged {
				token = token[:strings.LastIndexByte(token, '.')+1] + strings.Repeat("A", 86)
			}
			r.tx.Queue(id, token[:len(token)-c.cut])
			want[id] = c.code
		}
		r.poll()
		wait(3 * time.Second)
		r.wantInForce("sub=alice before 900000001")
		acked, refused := r.tx.Settled()
		if !slices.Equal(acked, []string{good}) || len(refused) != len(want) || r.tx.Waiting() != 0 {
			t.Errorf("got %v acknowledged, %v refused and %d waiting, want %s acknowledged and the others refused", acked, refused, r.tx.Waiting(), good)
		}
		for id, code := range want {
			if refused[id] != code {
				t.Errorf("%s: got the code %q, want %q", id, refused[id], code)
			}
		}
	})
}

func TestPollGoesOnAtOnceWhileMoreIsAvailable(t *testing.T) {
	polling(t, func(t *testing.T, r *rig) {
		for range 100 {
			r.tx.Send(ssftest.SessionRevoked, m{}, r.tx.Session("alice", "s"))
		}
		begun := time.Now()
		r.poll()
		for r.tx.Waiting() > 0 {
			wait(10 * time.Millisecond)
		}
		if took := time.Since(begun); took >= time.Second {
			t.Errorf("got 100 events in %v, want them without a pause", took)
		}
		polls, _, _ := r.tx.Counts()
		wait(time.Minute)
		if now, _, logins := r.tx.Counts(); now-polls < 55 || now-polls > 62 || logins > 3 {
			t.Errorf("got %d polls in a minute without events and %d access tokens, want one poll a second", now-polls, logins)
		}
	})
}

// TestPollGoesOnWhereThePollerBeforeWas holds that an event is taken again that was
// made durable and not acknowledged, and that the repetition does nothing.
func TestPollGoesOnWhereThePollerBeforeWas(t *testing.T) {
	polling(t, func(t *testing.T, r *rig) {
		id := r.tx.Send(ssftest.SessionRevoked, at(900_000_000), r.tx.Session("alice", "ALL"))
		lost := &losing{direct: direct{r.tx.Handler()}}
		stop := r.pollBy(lost, time.Second)
		wait(time.Second / 2)
		stop()
		r.wantInForce("sub=alice before 900000001")
		if acked, _ := r.tx.Settled(); len(acked) != 0 {
			t.Fatalf("got %v acknowledged before the crash, want nothing", acked)
		}
		r.poll()
		wait(2 * time.Second)
		r.wantInForce("sub=alice before 900000001")
		if acked, _ := r.tx.Settled(); !slices.Equal(acked, []string{id}) || r.count(intake.Already) != 1 {
			t.Errorf("got %v acknowledged and %d repetitions, want %s once again", acked, r.count(intake.Already), id)
		}
	})
}

// losing loses every poll that acknowledges something.
type losing struct{ direct }

func (l *losing) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/poll") {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		text := make([]byte, 4096)
		n, _ := body.Read(text)
		if strings.Contains(string(text[:n]), `"ack"`) {
			return nil, errors.New("the connection is lost")
		}
	}
	return l.direct.RoundTrip(r)
}

// TestPollAnHourWithoutTheTransmitter holds that no event is lost, that the
// transmitter is not asked all the time, and that an operator sees the fault.
func TestPollAnHourWithoutTheTransmitter(t *testing.T) {
	polling(t, func(t *testing.T, r *rig) {
		r.poll()
		wait(time.Minute)
		r.tx.Break(http.StatusServiceUnavailable)
		wait(time.Hour)
		if got := r.door.Status().Error; !strings.Contains(got, "503") {
			t.Errorf("got the fault %q, want the answer of the transmitter", got)
		}
		r.tx.Send(ssftest.SessionRevoked, at(900_000_000), r.tx.Session("alice", "ALL"))
		r.tx.Break(0)
		r.tx.Expire()
		wait(2 * time.Minute)
		r.wantInForce("sub=alice before 900000001")
		if got := r.door.Status().Error; got != "" || r.tx.Waiting() != 0 {
			t.Errorf("got the fault %q and %d waiting events, want neither", got, r.tx.Waiting())
		}
	})
}

// TestPollThatIsHeldBackHasAnEnd holds that a transmitter which never answers a
// long poll does not stop the poller, and that no event is lost.
func TestPollThatIsHeldBackHasAnEnd(t *testing.T) {
	var lines syncbuffer.Buffer
	polling(t, func(t *testing.T, r *rig) {
		hanging := &holding{direct: direct{r.tx.Handler()}}
		r.pollBy(hanging, time.Second)
		wait(5 * time.Minute)
		if hanging.held < 4 || hanging.held > 10 {
			t.Errorf("got %d long polls in five minutes, want them to end after 40 s", hanging.held)
		}
		if got := r.door.Status().Error + lines.String(); got != "" {
			t.Errorf("got the fault %q, want none, also in between", got)
		}
	}, func(door *intake.Options, _ *ssf.Options) {
		door.Logger = slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelWarn}))
	})
}

// holding answers a poll that may wait only when its caller gives up.
type holding struct {
	direct
	held int
}

func (h *holding) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/poll") {
		body, _ := r.GetBody()
		text := make([]byte, 4096)
		n, _ := body.Read(text)
		if strings.Contains(string(text[:n]), `"returnImmediately":false`) {
			h.held++
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
	}
	return h.direct.RoundTrip(r)
}

// TestConformanceVerificationBehindQueuedEvents holds that a verification event
// counts wherever it comes.
func TestConformanceVerificationBehindQueuedEvents(t *testing.T) {
	polling(t, func(t *testing.T, r *rig) {
		for range 40 {
			r.tx.Send(ssftest.SessionRevoked, at(900_000_000), r.tx.Session("alice", "ALL"))
		}
		r.watch(15 * time.Minute)
		wait(time.Second)
		r.pollSeldom()
		wait(time.Hour)
		if got := r.door.Status().Error; got != "" || r.tx.Waiting() != 0 {
			t.Errorf("got the fault %q and %d waiting events, want neither", got, r.tx.Waiting())
		}
	})
}
