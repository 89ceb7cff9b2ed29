package main

import (
	"context"
	"fmt"
	"strings"

	"rescind/revocation/intake/ssf/stream"
	"rescind/revocation/printable"
)

// streamDocument is a stream as -o json prints it. The Authorization header of
// pushes is not in it.
type streamDocument struct {
	Stream   *stream.Stream    `json:"stream"`
	Status   string            `json:"status"`
	Reason   string            `json:"reason,omitempty"`
	Settings map[string]string `json:"settings"` // keys of the intake, as YAML
}

// printStream prints a stream, its status, and the keys of its intake. header is
// the Authorization header of its pushes, if this command has made the stream.
func (a *app) printStream(ctx context.Context, tx *stream.Transmitter, s *stream.Stream, header string) error {
	m, err := tx.Discover(ctx)
	if err != nil {
		return err
	}
	status, err := tx.Status(ctx, s.ID)
	if err != nil {
		status = &stream.Status{Status: "unknown", Reason: err.Error()}
	}
	shown := *s
	shown.Delivery.Authorization = ""
	settings := streamSettings(s, m, header)
	if a.output == "json" {
		of := map[string]string{}
		for _, p := range settings {
			of[p[0]] = p[1]
		}
		return a.printValue(streamDocument{&shown, status.Status, status.Reason, of})
	}
	delivery := "polled at " + s.Delivery.Endpoint
	if !s.Polls() {
		delivery = "pushed to " + s.Delivery.Endpoint
	}
	rows := [][2]string{
		{"state", printable.Quote(status.Status)}, {"reason", printable.Quote(status.Reason)}, {"id", printable.Quote(s.ID)}, {"delivery", printable.Quote(delivery)},
		{"audience", quoted(s.Audience)}, {"events", quoted(s.EventsDelivered)}, {"description", printable.Quote(s.Description)},
	}
	if s.MinVerification > 0 {
		rows = append(rows, [2]string{"verify", fmt.Sprintf("at most each %d s", s.MinVerification)})
	}
	if s.Inactivity > 0 {
		rows = append(rows, [2]string{"inactivity", fmt.Sprintf("may end after %d s without a call", s.Inactivity)})
	}
	var filled [][2]string
	for _, row := range rows {
		if row[1] != "" && row[1] != `""` {
			filled = append(filled, row)
		}
	}
	if err := a.screen().fields(filled...); err != nil {
		return err
	}
	if m.DefaultSubjects == "NONE" {
		note(a.errs, "the transmitter sends no events of subjects that are not added to the stream, unless it is set up to (default_subjects: NONE)")
	}
	text := "\nfor the intake in control.yaml:\n"
	for _, p := range settings {
		text += fmt.Sprintf("  %s: %s\n", p[0], p[1])
	}
	_, err = fmt.Fprint(a.out, text)
	return err
}

// streamSettings returns the keys of an intake of this stream, with their values as
// YAML.
func streamSettings(s *stream.Stream, m *stream.Metadata, header string) [][2]string {
	kind := "ssf_push"
	if s.Polls() {
		kind = "ssf_poll"
	}
	settings := [][2]string{
		{"kind", kind}, {"transmitter", yamlText(m.Issuer)}, {"jwks_uri", yamlText(m.KeysURI)}, {"stream", yamlText(s.ID)},
		{"audiences", yamlList(s.Audience)}, {"strict", fmt.Sprint(m.SpecVersion == "1_0")},
	}
	if len(m.Critical) > 0 {
		settings = append(settings, [2]string{"critical_subject_members", yamlList(m.Critical)})
	}
	if header != "" {
		settings = append(settings, [2]string{"authorization_sha256", sumOf(header)})
	}
	return settings
}

func yamlText(s string) string { return fmt.Sprintf("%q", s) }

func yamlList(all []string) string {
	var texts []string
	for _, s := range all {
		texts = append(texts, yamlText(s))
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// quoted returns texts of a transmitter for people.
func quoted(all []string) string {
	var texts []string
	for _, s := range all {
		texts = append(texts, printable.Quote(s))
	}
	return strings.Join(texts, ", ")
}
