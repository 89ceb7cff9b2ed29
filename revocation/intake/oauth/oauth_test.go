package oauth

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"rescind/revocation/intake"
)

// patient is a door that notes whether its caller has gone away.
type patient struct{ gone error }

func (p *patient) Take(ctx context.Context, _ *intake.Event) (intake.Outcome, error) {
	p.gone = ctx.Err()
	return intake.Outcome{State: intake.Revoked}, p.gone
}

func (*patient) Turn(context.Context, string, error) {}

// Keycloak waits for the answer and sends once. An event of a sender that does
// not wait is carried out all the same.
func TestAnEventOutlivesItsSender(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w, p := httptest.NewRecorder(), &patient{}
	out, err := Take(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/", nil), p, &intake.Event{}, Statuses{Done: http.StatusOK})
	if err != nil || p.gone != nil || out.State != intake.Revoked || w.Code != http.StatusOK {
		t.Errorf("got %+v, the error %v and %d, want the event revoked and 200", out, err, w.Code)
	}
}
