package config

import (
	"net/url"
	"time"

	"rescind/revocation"
	"rescind/revocation/insight"
)

// AlertDelivery says where the control endpoint sends alerts, and which of them
// revoke by themselves.
type AlertDelivery struct {
	Window        time.Duration // within which the same thing is one alert
	ExternalURL   string        // of the admin API, for links in alerts; empty: no links
	Webhooks      []Webhook
	Alertmanagers []Alertmanager
	Actions       []Action
}

// Webhook is an endpoint that gets alerts.
type Webhook struct {
	Name       string
	URL        string
	SecretFile string // see [ReadSecret]
	CAFile     string
	Detectors  []insight.Detector // nil: all
}

// Alertmanager gets alerts over its v2 API.
type Alertmanager struct {
	Name      string
	URL       string
	CAFile    string
	Detectors []insight.Detector // nil: all
}

// Action is a revocation that an alert carries out.
type Action struct {
	Detector   insight.Detector
	Revoke     string // token, session or subject
	Block      bool
	DryRun     bool
	MaxPerHour int
	ExpiresIn  time.Duration // 0: the retention
}

// Upstream is an issuer that gets revoked tokens at its revocation endpoint.
type Upstream struct {
	Issuer             string
	RevocationEndpoint string
	ClientID           string
	ClientSecretFile   string // see [ReadSecret]; empty: a public client
	CAFile             string
}

func readAlertDelivery(v value, h *AlertDelivery) {
	name := distinctOver()
	v.object(keys{
		"window":        into(&h.Window, duration(time.Minute, 24*time.Hour)),
		"external_url":  into(&h.ExternalURL, text(isURL)),
		"webhooks":      into(&h.Webhooks, listOf(webhook(name))),
		"alertmanagers": into(&h.Alertmanagers, listOf(alertmanager(name))),
		"actions":       into(&h.Actions, listOf(action())),
	})
}

func webhook(name func(value, string) string) as[Webhook] {
	return func(v value, w *Webhook) {
		plaintext := v.has("allow_http")
		if v.object(keys{
			"name":        into(&w.Name, text(isName)),
			"url":         need(&w.URL, "where alerts are sent to, such as https://siem.example.com/hooks/rescind", text(isURL)),
			"secret_file": need(&w.SecretFile, "the secret that signs the alerts", file(aSecret)),
			"ca_file":     into(&w.CAFile, file(certificates)),
			"detectors":   restrict(&w.Detectors, some(detector)),
			"allow_http":  into(&plaintext, flag),
		}) {
			w.Name = name(v, named(w.Name, w.URL))
			secured(v, "url", w.URL, plaintext, "alerts sent over http can be read and suppressed on the way")
		}
	}
}

func alertmanager(name func(value, string) string) as[Alertmanager] {
	return func(v value, a *Alertmanager) {
		plaintext := v.has("allow_http")
		if v.object(keys{
			"name":       into(&a.Name, text(isName)),
			"url":        need(&a.URL, "of the Alertmanager, such as https://alertmanager.example.com", text(isURL)),
			"ca_file":    into(&a.CAFile, file(certificates)),
			"detectors":  restrict(&a.Detectors, some(detector)),
			"allow_http": into(&plaintext, flag),
		}) {
			a.Name = name(v, named(a.Name, a.URL))
			secured(v, "url", a.URL, plaintext, "alerts sent over http can be read and suppressed on the way")
		}
	}
}

func action() as[Action] {
	first := map[[2]string]int{}
	kinds := choice(map[string]string{"token": "token", "session": "session", "subject": "subject"})
	return func(v value, a *Action) {
		a.DryRun, a.MaxPerHour = true, 10
		if !v.object(keys{
			"detector":     need(&a.Detector, "whose alerts it is for, such as revoked_token_used", detector),
			"revoke":       need(&a.Revoke, "token, session or subject", kinds),
			"block":        into(&a.Block, flag),
			"dry_run":      into(&a.DryRun, flag),
			"max_per_hour": into(&a.MaxPerHour, count(1, 10_000)),
			"expires_in":   into(&a.ExpiresIn, duration(positive, 0)),
		}) {
			return
		}
		pair := [2]string{string(a.Detector), a.Revoke}
		if line, twice := first[pair]; twice && a.Detector != "" && a.Revoke != "" {
			v.fault("duplicate action, first used on line %d", line)
		}
		first[pair] = v.line
	}
}

func readUpstreams(v value, x *[]Upstream) {
	name := distinct(text(revocation.CheckIssuer))
	listOf(func(v value, u *Upstream) {
		plaintext := v.has("allow_http")
		if !v.object(keys{
			"issuer":              need(&u.Issuer, "the iss of its tokens, such as https://idp.example.com/", name),
			"revocation_endpoint": need(&u.RevocationEndpoint, "its endpoint of RFC 7009, such as https://idp.example.com/revoke", text(isURL)),
			"client_id":           into(&u.ClientID, text()),
			"client_secret_file":  into(&u.ClientSecretFile, file(aSecret)),
			"ca_file":             into(&u.CAFile, file(certificates)),
			"allow_http":          into(&plaintext, flag),
		}) {
			return
		}
		if v.has("client_secret_file") && !v.has("client_id") {
			v.at("client_secret_file").fault("has no use without client_id")
		}
		secured(v, "revocation_endpoint", u.RevocationEndpoint, plaintext, "tokens and secrets sent over http can be read on the way")
	})(v, x)
}

// detector reads the name of a detector.
func detector(v value, x *insight.Detector) {
	known := map[string]insight.Detector{}
	for _, d := range insight.Detectors {
		known[string(d)] = d
	}
	choice(known)(v, x)
}

// secured demands https off this machine, unless allow_http permits plaintext.
func secured(v value, key, to string, plaintext bool, why string) {
	if to != "" && inTheClear(to) && !plaintext {
		v.at(key).fault("%s; use https, or allow_http: true", why)
	}
}

// named returns the name of a target: its own, or else its host.
func named(name, to string) string {
	if name != "" {
		return name
	}
	if u, err := url.Parse(to); err == nil {
		return u.Hostname()
	}
	return ""
}

// distinctOver refuses a name that stands in two places, over several lists.
func distinctOver() func(v value, name string) string {
	first := map[string]int{}
	return func(v value, name string) string {
		if name == "" {
			return ""
		}
		if line, twice := first[name]; twice {
			v.fault("has the name %s, as the one on line %d; give it another name", name, line)
		}
		first[name] = v.line
		return name
	}
}
