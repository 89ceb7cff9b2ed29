package ssf_test

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rescind/revocation/intake"
	"rescind/revocation/intake/ssf"
	"rescind/revocation/intake/ssftest"
	"rescind/test/eventually"
	"rescind/test/syncbuffer"
)

func (r *rig) watch(every time.Duration) (stop func()) {
	return r.run((&ssf.Watch{Receiver: r.receiver, Transmitter: r.transmitter(direct{r.tx.Handler()}), Every: every}).Run)
}

func (r *rig) wantFault(when, want string) {
	r.t.Helper()
	if got := r.door.Status().Error; (got == "") != (want == "") || !strings.Contains(got, want) {
		r.t.Errorf("%s: got the fault %q, want %q in it", when, got, want)
	}
}

func TestWatchReportsAStreamThatIsNotWell(t *testing.T) {
	var lines syncbuffer.Buffer
	logged := func(door *intake.Options, _ *ssf.Options) { door.Logger = slog.New(slog.NewTextHandler(&lines, nil)) }
	polling(t, func(_ *testing.T, r *rig) {
		r.pollSeldom()
		r.watch(0)
		wait(time.Minute)
		r.wantFault("at the start", "")
		for _, status := range []string{"paused", "disabled"} {
			r.tx.SetStatus(status, "maintenance")
			wait(2*time.Minute + 10*time.Millisecond)
			r.wantFault(status, "the stream is "+status+" at the transmitter, so no events come: maintenance")
			r.tx.SetStatus("enabled", "")
			wait(2 * time.Minute)
			r.wantFault("enabled", "")
		}
	}, logged)
	for _, want := range []string{"no events come from the sender", "events come from the sender again"} {
		if got := strings.Count(lines.String(), want); got != 2 {
			t.Errorf("got the message %q %d times in\n%s\nwant it twice", want, got, &lines)
		}
	}
}

// TestWatchOfAPushReportsADeletedStream has no poller, because a poll of a deleted
// stream fails by itself.
func TestWatchOfAPushReportsADeletedStream(t *testing.T) {
	polling(t, func(_ *testing.T, r *rig) {
		r.watch(0)
		wait(time.Minute)
		r.wantFault("at the start", "")
		r.tx.Delete()
		wait(2 * time.Minute)
		r.wantFault("deleted", "rescind stream create")
	})
}

func TestWatchReportsSilence(t *testing.T) {
	polling(t, func(_ *testing.T, r *rig) {
		r.pollSeldom()
		r.watch(15 * time.Minute)
		wait(time.Hour)
		r.wantFault("while verification events come", "")
		r.tx.Mute(true)
		wait(30 * time.Minute)
		r.wantFault("while none comes", "silent")
		r.tx.Mute(false)
		wait(20 * time.Minute)
		r.wantFault("when they come again", "")
	})
}

func TestWatchAsksNotTooOften(t *testing.T) {
	for _, c := range []struct {
		name  string
		least int // of the stream, in seconds
		every time.Duration
		want  int // in the three hours after the first
	}{
		{"the interval of the configuration", 0, 30 * time.Minute, 6},
		{"the interval of the stream, which is longer", 3600, 30 * time.Minute, 3},
		{"never", 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := transmit(t)
			r.tx.Least(c.least)
			r.tx.Open(map[string]any{"method": "urn:ietf:rfc:8936"})
			synctest.Test(t, func(t *testing.T) {
				r.receive(t)
				r.pollSeldom()
				r.watch(c.every)
				wait(3*time.Hour + 10*time.Minute)
				want := c.want
				if want > 0 {
					want++
				}
				if _, got, _ := r.tx.Counts(); got != want {
					t.Errorf("got %d verifications in three hours, want %d", got, want)
				}
			})
		})
	}
}

func TestWatchOfATransmitterThatIsDown(t *testing.T) {
	polling(t, func(_ *testing.T, r *rig) {
		r.watch(15 * time.Minute)
		wait(time.Minute)
		r.tx.Break(http.StatusBadGateway)
		wait(2 * time.Minute)
		r.wantFault("down", "502")
	})
}

// TestConformanceWrongState holds that a verification with a state that was not
// asked for is refused once this receiver has asked for one, and that a state it
// has asked for may come again.
func TestConformanceWrongState(t *testing.T) {
	r := start(t)
	stop := r.watch(time.Hour)
	eventually.Succeeds(t, "a verification is asked for, and arrives", func() error {
		if r.door.Status().LastSuccess.IsZero() || r.tx.LastState() == "" {
			return errors.New(r.door.Status().Error)
		}
		return nil
	})
	stop()
	wantFault(t, r.push(ssftest.Verification, map[string]any{"state": "wrong"}, streamID(r.tx.StreamID()), nil), "invalid_state")
	wantFault(t, r.push(ssftest.Verification, map[string]any{"state": 7}, streamID(r.tx.StreamID()), nil), "invalid_state")
	wantAccepted(t, r.push(ssftest.Verification, map[string]any{}, streamID(r.tx.StreamID()), nil))
	wantAccepted(t, r.push(ssftest.Verification, map[string]any{"state": r.tx.LastState()}, streamID(r.tx.StreamID()), nil))
}
