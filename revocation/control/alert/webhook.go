package alert

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"rescind/revocation/insight"
)

// Headers of a webhook.
const (
	HeaderID        = "Rescind-Id"        // of the alert; a repeated delivery has the same
	HeaderTimestamp = "Rescind-Timestamp" // seconds since 1970
	HeaderSignature = "Rescind-Signature" // see [Sign]
)

// WebhookOptions of a [Webhook].
type WebhookOptions struct {
	Name      string
	URL       string
	Secret    func() (string, error) // asked for each time
	TLS       func() (*tls.Config, error)
	Detectors []insight.Detector // nil: all
}

// Webhook returns a target that gets each alert when it is raised, as
//
//	{"id": "a…", "alert": {…}}
//
// with the headers above. The receiver checks the signature and that the
// timestamp is not old, and drops an ID that it has already.
func Webhook(o WebhookOptions) Target {
	p := newPoster(o.URL, o.TLS)
	return Target{Name: o.Name, Detectors: o.Detectors, Send: func(ctx context.Context, a insight.Alert) error {
		secret, err := o.Secret()
		if err != nil {
			return fmt.Errorf("the secret of the webhook: %w", err)
		}
		body, err := json.Marshal(struct {
			ID    string        `json:"id"`
			Alert insight.Alert `json:"alert"`
		}{a.ID, a})
		if err != nil {
			return Permanent(err)
		}
		at := strconv.FormatInt(time.Now().Unix(), 10)
		return p.post(ctx, body, map[string]string{HeaderID: a.ID, HeaderTimestamp: at, HeaderSignature: Sign(secret, at, body)})
	}}
}

// Sign returns v1= and the hex HMAC-SHA256, with the secret as its key, of the
// timestamp, a dot and the body.
func Sign(secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	return "v1=" + hex.EncodeToString(mac.Sum(nil))
}
