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
	HeaderID        = "Rescind-Id"        // the alert's: what comes twice has the same
	HeaderTimestamp = "Rescind-Timestamp" // seconds since 1970
	HeaderSignature = "Rescind-Signature" // see [Sign]
)

// WebhookOptions say where a webhook is.
type WebhookOptions struct {
	Name      string
	URL       string
	Secret    func() (string, error) // asked for each time
	TLS       func() (*tls.Config, error)
	Detectors []insight.Detector // nil: all
}

// Webhook is a target that is sent each alert once it is raised, as
//
//	{"id": "a…", "alert": {…}}
//
// with the headers above. Whoever receives it checks the signature, that the
// timestamp is not old, and that the ID is not one that came before.
func Webhook(o WebhookOptions) Target {
	p := newPoster(o.URL, o.TLS)
	return Target{Name: o.Name, Detectors: o.Detectors, Send: func(ctx context.Context, a insight.Alert) error {
		secret, err := o.Secret()
		if err != nil {
			return fmt.Errorf("its secret: %w", err)
		}
		body, err := json.Marshal(struct {
			ID    string        `json:"id"`
			Alert insight.Alert `json:"alert"`
		}{a.ID, a})
		if err != nil {
			return Refused(err)
		}
		at := strconv.FormatInt(time.Now().Unix(), 10)
		return p.post(ctx, body, map[string]string{HeaderID: a.ID, HeaderTimestamp: at, HeaderSignature: Sign(secret, at, body)})
	}}
}

// Sign is v1= and the hex HMAC-SHA256, by the secret, of the timestamp, a dot
// and the body.
func Sign(secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	return "v1=" + hex.EncodeToString(mac.Sum(nil))
}
