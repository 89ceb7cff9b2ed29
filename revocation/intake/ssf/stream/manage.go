package stream

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The delivery methods of a stream.
const (
	Push = "urn:ietf:rfc:8935"
	Poll = "urn:ietf:rfc:8936"
)

// The methods of the editions before, which Google has still.
const (
	oldPush = "https://schemas.openid.net/secevent/risc/delivery-method/push"
	oldPoll = "https://schemas.openid.net/secevent/risc/delivery-method/poll"
)

// Delivery says how the events of a stream travel.
type Delivery struct {
	Method        string `json:"method"`
	Endpoint      string `json:"endpoint_url,omitempty"`         // of the receiver for a push, of the transmitter for a poll
	Authorization string `json:"authorization_header,omitempty"` // that a push carries
}

// Stream is the configuration of a stream.
type Stream struct {
	ID              string   `json:"stream_id,omitempty"`
	Issuer          string   `json:"iss,omitempty"`
	Audience        Texts    `json:"aud,omitempty"`
	Delivery        Delivery `json:"delivery"`
	EventsSupported []string `json:"events_supported,omitempty"`
	EventsRequested []string `json:"events_requested,omitempty"`
	EventsDelivered []string `json:"events_delivered,omitempty"`
	MinVerification int      `json:"min_verification_interval,omitempty"` // seconds
	Inactivity      int      `json:"inactivity_timeout,omitempty"`        // seconds
	Description     string   `json:"description,omitempty"`
}

// Polls reports whether the events of the stream are polled.
func (s *Stream) Polls() bool { return s.Delivery.Method == Poll || s.Delivery.Method == oldPoll }

// Texts is a text or an array of texts.
type Texts []string

// UnmarshalJSONFrom reads both forms.
func (t *Texts) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '"' {
		return json.UnmarshalDecode(d, (*[]string)(t))
	}
	var one string
	err := json.UnmarshalDecode(d, &one)
	*t = Texts{one}
	return err
}

// Status is the status of a stream.
type Status struct {
	ID     string `json:"stream_id,omitempty"`
	Status string `json:"status"` // enabled, paused or disabled
	Reason string `json:"reason,omitempty"`
}

// The states of a stream.
const (
	Enabled  = "enabled"
	Paused   = "paused"
	Disabled = "disabled"
)

// endpoint returns a URL of the metadata, for one stream.
func (t *Transmitter) endpoint(ctx context.Context, name, id string, of func(*Metadata) string) (string, error) {
	m, err := t.Discover(ctx)
	if err != nil {
		return "", err
	}
	at := of(m)
	if at == "" {
		return "", fmt.Errorf("the transmitter's metadata has no %s", name)
	}
	if id == "" {
		return at, nil
	}
	u, err := url.Parse(at)
	if err != nil {
		return "", fmt.Errorf("the %s of the transmitter is not a URL", name)
	}
	q := u.Query()
	q.Set("stream_id", id)
	u.RawQuery = q.Encode()
	return u.String(), nil
}

func configuration(m *Metadata) string { return m.Configuration }

// Create makes a stream. It returns [ErrExists] if the transmitter allows one
// stream, and has it.
func (t *Transmitter) Create(ctx context.Context, s *Stream) (*Stream, error) {
	at, err := t.endpoint(ctx, "configuration_endpoint", "", configuration)
	if err != nil {
		return nil, err
	}
	made := &Stream{}
	err = t.call(ctx, http.MethodPost, at, s, made)
	if statusOf(err) == http.StatusConflict {
		return nil, ErrExists
	}
	return t.checked(made, err)
}

// Stream returns the stream of the ID.
func (t *Transmitter) Stream(ctx context.Context, id string) (*Stream, error) {
	at, err := t.endpoint(ctx, "configuration_endpoint", id, configuration)
	if err != nil {
		return nil, err
	}
	s := &Stream{}
	return t.checked(s, t.call(ctx, http.MethodGet, at, nil, s))
}

// Streams returns the streams of this receiver.
func (t *Transmitter) Streams(ctx context.Context) ([]Stream, error) {
	at, err := t.endpoint(ctx, "configuration_endpoint", "", configuration)
	if err != nil {
		return nil, err
	}
	var answer jsontext.Value
	if err := t.call(ctx, http.MethodGet, at, nil, &answer); err != nil {
		return nil, err
	}
	var list []Stream
	if answer.Kind() == '{' { // Google has one stream, and answers it alone
		list = make([]Stream, 1)
		err = json.Unmarshal(answer, &list[0])
	} else if len(answer) > 0 {
		err = json.Unmarshal(answer, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: the answer is not a list of streams: %w", at, err)
	}
	for i := range list {
		if _, err := t.checked(&list[i], nil); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// checked returns a stream, unless it is another issuer's.
func (t *Transmitter) checked(s *Stream, err error) (*Stream, error) {
	switch {
	case err != nil:
		return nil, err
	case s.Issuer != "" && s.Issuer != t.o.Issuer:
		return nil, fmt.Errorf("the stream %q is of the issuer %q; the transmitter is configured as %q", s.ID, s.Issuer, t.o.Issuer)
	}
	return s, nil
}

// Delete deletes a stream. A stream that is not there is deleted.
func (t *Transmitter) Delete(ctx context.Context, id string) error {
	at, err := t.endpoint(ctx, "configuration_endpoint", id, configuration)
	if err != nil {
		return err
	}
	err = t.call(ctx, http.MethodDelete, at, nil, nil)
	if statusOf(err) == http.StatusNotFound {
		return nil
	}
	return err
}

// Status returns the status of a stream.
func (t *Transmitter) Status(ctx context.Context, id string) (*Status, error) {
	at, err := t.endpoint(ctx, "status_endpoint", id, func(m *Metadata) string { return m.Status })
	if err != nil {
		return nil, err
	}
	s := &Status{}
	return s, t.call(ctx, http.MethodGet, at, nil, s)
}

// SetStatus pauses, enables or disables a stream.
func (t *Transmitter) SetStatus(ctx context.Context, s Status) error {
	at, err := t.endpoint(ctx, "status_endpoint", "", func(m *Metadata) string { return m.Status })
	if err != nil {
		return err
	}
	return t.call(ctx, http.MethodPost, at, s, nil)
}

// Verify asks the transmitter for a verification event with this state; "" is
// none.
func (t *Transmitter) Verify(ctx context.Context, id, state string) error {
	at, err := t.endpoint(ctx, "verification_endpoint", "", func(m *Metadata) string { return m.Verification })
	if err != nil {
		return err
	}
	return t.call(ctx, http.MethodPost, at, struct {
		ID    string `json:"stream_id,omitempty"`
		State string `json:"state,omitempty"`
	}{id, state}, nil)
}

// Gone reports whether err says that the stream is not there.
func Gone(err error) bool { return statusOf(err) == http.StatusNotFound }

// TooSoon reports whether err says that a verification was asked for too soon
// after the last one.
func TooSoon(err error) bool { return statusOf(err) == http.StatusTooManyRequests }
