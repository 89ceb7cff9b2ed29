package config

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rescind/revocation"
	"rescind/revocation/intake"
	"rescind/revocation/intake/secevent"
	"rescind/revocation/intake/ssf"
	"rescind/revocation/intake/ssf/stream"
)

// SSF is a transmitter of the Shared Signals Framework whose events are pushed to
// /intake/NAME/events (kind ssf_push), or polled (kind ssf_poll).
type SSF struct {
	Transmitter Signer // the iss of the events; default: the one issuer of the entry
	Rules       secevent.Rules
	Events      map[string]ssf.Action // by the URI of the type
	Subjects    ssf.Subjects
	Stream      string // the ID of the stream; empty: not known
	// Authorization is the SHA-256 of the Authorization header of each push. Nil:
	// pushes carry none.
	Authorization *[sha256.Size]byte

	// Management says how the stream is watched and polled. Nil: it is not.
	Management   *SSFManagement
	PollURL      string // empty: where the stream says
	PollInterval time.Duration
}

// SSFManagement is this receiver's access to the API of the transmitter.
type SSFManagement struct {
	MetadataURL string // empty: the well-known places of the transmitter
	TokenFile   string // see [ReadSecret]
	// A client that gets access tokens, in the place of TokenFile.
	TokenURL         string
	ClientID         string
	ClientSecretFile string // see [ReadSecret]
	Scopes           []string

	AllowPrivate bool
	VerifyEvery  time.Duration // 0: never
}

func readSSFPush(v value, i *Intake) (keys, func()) {
	s := &SSF{}
	known := s.keys(v, i)
	known["authorization_sha256"] = func(v value) {
		if !v.absent() {
			s.Authorization = new([sha256.Size]byte)
			parsed(digest)(v, s.Authorization)
		}
	}
	known["management"] = into(&s.Management, s.readManagement)
	return known, func() {
		s.check(v, i)
		if s.Management != nil && s.Stream == "" {
			v.at("management").fault("has no use without stream, the ID of the stream to watch (rescind stream show)")
		}
	}
}

func readSSFPoll(v value, i *Intake) (keys, func()) {
	s := &SSF{PollInterval: time.Second}
	known := s.keys(v, i)
	known["poll_url"] = into(&s.PollURL, text(isURL))
	known["poll_interval"] = into(&s.PollInterval, duration(100*time.Millisecond, time.Hour))
	known["management"] = need(&s.Management, "the credential for polls: {token_file: …}, or {token_url: …, client_id: …, client_secret_file: …}", s.readManagement)
	return known, func() {
		s.check(v, i)
		if s.Stream == "" && s.PollURL == "" {
			v.fault("needs stream, the ID of the stream (rescind stream show), or poll_url")
		}
		if !s.Transmitter.AllowHTTP && inTheClear(s.PollURL) {
			v.at("poll_url").fault("the credential would be sent over http, where it can be read on the way; use https, or allow_http: true")
		}
	}
}

// keys returns the readers of the keys that both kinds have.
func (s *SSF) keys(v value, i *Intake) keys {
	i.Settings = s
	s.Rules.Strict = true
	anyAudience, sessions := v.has("any_audience"), true
	known := s.Transmitter.keys(v)
	maps.Copy(known, keys{
		"transmitter":              into(&s.Transmitter.Issuer, text(revocation.CheckIssuer)),
		"audiences":                restrict(&s.Rules.Audiences, some(text())),
		"any_audience":             into(&anyAudience, flag),
		"strict":                   into(&s.Rules.Strict, flag),
		"stream":                   into(&s.Stream, text(isStream)),
		"events":                   into(&s.Events, readEvents),
		"subject_issuers":          into(&s.Subjects.IssuerOf, mapOf(revocation.CheckIssuer, text(revocation.CheckIssuer))),
		"email_domains":            restrict(&s.Subjects.EmailDomains, some(text(isDomain))),
		"critical_subject_members": into(&s.Subjects.Critical, listOf(text())),
		"unmatched":                into(&s.Subjects.Narrow, choice(map[string]bool{"widen": false, "ignore": true})),
		"sid_in_tokens": func(v value) {
			into(&sessions, flag)(v)
			s.Subjects.NoSessions = !sessions
		},
	})
	return known
}

// check holds the rules over several keys.
func (s *SSF) check(v value, i *Intake) {
	if s.Transmitter.Issuer == "" && v.at("transmitter").absent() {
		if len(i.Issuers) == 1 {
			s.Transmitter.Issuer = i.Issuers[0]
		} else if len(i.Issuers) > 1 {
			v.fault("needs transmitter, the iss of the events, because issuers has several")
		}
	}
	s.Transmitter.check(v, s.Transmitter.Issuer)
	if v.has("audiences") == v.has("any_audience") {
		v.fault("needs audiences, at least one of which the events must have in aud, or any_audience: true")
	}
	for from, to := range s.Subjects.IssuerOf {
		if len(i.Issuers) > 0 && !slices.Contains(i.Issuers, to) {
			v.at("subject_issuers", from).fault("%.200q is not one of issuers, so its tokens cannot be revoked", to)
		}
	}
	s.checkManagement(v)
	if s.Subjects.EmailDomains != nil && i.Map[intake.NameEmail].String() == "" {
		v.at("email_domains").fault("has no use without map: {email: CLAIM}, the claim of the tokens that carries the email")
	}
	if slices.Contains(i.May, intake.Block) {
		return
	}
	for uri, action := range s.Events {
		if action == ssf.Block {
			v.at("events").fault("%.100s says block, and may does not list block; add it, or say revoke", uri)
		}
	}
}

// checkManagement demands places that the credential may be sent to.
func (s *SSF) checkManagement(v value) {
	if s.Management == nil || s.Transmitter.Issuer == "" {
		return
	}
	tx, err := stream.Open(s.StreamOptions())
	if err != nil {
		v.at("management").fault("%v", err)
		return
	}
	tx.Close()
}

// readEvents reads the action of each type of events, by its short name or its
// URI.
func readEvents(v value, x *map[string]ssf.Action) {
	actions := map[string]ssf.Action{}
	for _, a := range ssf.Actions {
		actions[string(a)] = a
	}
	all := map[string]ssf.Action{}
	for _, e := range v.entries() {
		uri, err := ssf.EventType(e.name)
		if err != nil {
			e.key.fault("%s", nearestEvent(e.name, err))
			continue
		}
		action := all[uri]
		if choice(actions)(e.value, &action); e.value.absent() {
			e.value.fault("is missing: one of ignore, log, revoke, revoke_token, block and unblock")
		}
		all[uri] = action
	}
	*x = all
}

func nearestEvent(name string, err error) string {
	if strings.Contains(name, ":") {
		return err.Error()
	}
	return unknown(name, ssf.EventNames())
}

func (s *SSF) readManagement(v value, x **SSFManagement) {
	m := &SSFManagement{VerifyEvery: 15 * time.Minute}
	if !v.object(keys{
		"metadata_url":       into(&m.MetadataURL, text(isURL)),
		"token_file":         into(&m.TokenFile, file(aSecret)),
		"token_url":          into(&m.TokenURL, text(isURL)),
		"client_id":          into(&m.ClientID, text()),
		"client_secret_file": into(&m.ClientSecretFile, file(aSecret)),
		"scopes":             into(&m.Scopes, listOf(text())),
		"allow_private":      into(&m.AllowPrivate, flag),
		"verify_every":       into(&m.VerifyEvery, duration(0, 24*time.Hour)),
	}) {
		return
	}
	*x = m
	client := 0
	for _, key := range []string{"token_url", "client_id", "client_secret_file"} {
		if v.has(key) {
			client++
		}
	}
	if client != 0 && client != 3 || v.has("token_file") == (client == 3) {
		v.fault("needs token_file, or token_url with client_id and client_secret_file")
	}
}

// isStream accepts the ID of a stream.
func isStream(s string) error {
	if len(s) > secevent.MaxID {
		return fmt.Errorf("is longer than %d bytes", secevent.MaxID)
	}
	return nil
}

func isDomain(s string) error {
	if strings.ContainsAny(s, "@ /:*") || !strings.Contains(s, ".") {
		return fmt.Errorf("%.80q is not the domain of an email, such as example.com; write each domain out", s)
	}
	return nil
}

// StreamOptions returns the options of a client of the transmitter. m must not be
// nil.
func (s *SSF) StreamOptions() stream.Options {
	m := s.Management
	o := stream.Options{
		Issuer: s.Transmitter.Issuer, Metadata: m.MetadataURL, PollURL: s.PollURL,
		CAFile: s.Transmitter.CAFile, AllowHTTP: s.Transmitter.AllowHTTP, AllowPrivate: m.AllowPrivate,
		Credential: stream.Credential{TokenURL: m.TokenURL, ClientID: m.ClientID, Scopes: m.Scopes},
	}
	if m.TokenFile != "" {
		o.Credential.Token = SecretFrom(m.TokenFile)
	}
	if m.ClientSecretFile != "" {
		o.Credential.Secret = SecretFrom(m.ClientSecretFile)
	}
	return o
}
