package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"rescind/cmd/internal/config"
	"rescind/revocation/intake/ssf"
	"rescind/revocation/intake/ssf/stream"
	"rescind/revocation/printable"
)

const streamLong = `Manages the streams of security events at a transmitter of the Shared Signals
Framework. The command talks with the transmitter itself, and not with a control
endpoint. It takes the transmitter and the credential from an intake of
control.yaml (--config and the name of the intake), or from flags.

An intake needs the ID and the audience of its stream, so make the stream first,
with flags. create prints the lines for control.yaml.`

// streamFlags say which transmitter and which stream a command is about.
type streamFlags struct {
	config string // with the name of an intake
	id     string

	o          stream.Options
	tokenFile  string
	secretFile string
}

func (a *app) stream() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stream",
		Short: "Manage streams of security events at a transmitter",
		Long:  streamLong,
		Args:  known,
		RunE: func(*cobra.Command, []string) error {
			return usage("name the action: rescind stream create, show, verify, pause, resume or delete")
		},
	}
	cmd.AddCommand(a.streamCreate(), a.streamShow(), a.streamVerify(),
		a.streamStatus("pause", "Pause a stream; the transmitter may keep its events", stream.Paused),
		a.streamStatus("resume", "Enable a stream again", stream.Enabled), a.streamDelete())
	return cmd
}

// streamAction makes a command about a transmitter.
func (a *app) streamAction(name, short, example string, run func(context.Context, *streamFlags, *stream.Transmitter) error) *cobra.Command {
	s := &streamFlags{}
	cmd := &cobra.Command{
		Use:     name + " {--config FILE INTAKE | --transmitter URL}",
		Short:   short,
		Example: "  rescind stream " + name + " " + example,
		Args:    s.check,
	}
	f := cmd.Flags()
	f.StringVar(&s.config, "config", "", "the `file` control.yaml, whose intake is the argument")
	f.StringVar(&s.id, "id", "", "the `ID` of the stream, if the intake does not name it")
	f.StringVar(&s.o.Issuer, "transmitter", "", "issuer `URL` of the transmitter, as its metadata has it")
	f.StringVar(&s.o.Metadata, "metadata-url", "", "`URL` of the metadata, if it is not at a well-known place")
	f.StringVar(&s.tokenFile, "token-file", "", "`file` with a bearer token for the transmitter")
	f.StringVar(&s.o.Credential.TokenURL, "token-url", "", "`URL` for access tokens, with --client-id and --client-secret-file")
	f.StringVar(&s.o.Credential.ClientID, "client-id", "", "the client `ID` of this receiver")
	f.StringVar(&s.secretFile, "client-secret-file", "", "`file` with the secret of the client")
	f.StringSliceVar(&s.o.Credential.Scopes, "scope", nil, "scope of the access token, such as ssf.manage (repeatable)")
	f.StringVar(&s.o.CAFile, "ca-file", "", "trust the authorities in this PEM `file`, and no others")
	f.BoolVar(&s.o.AllowHTTP, "allow-http", false, "speak plain http with the transmitter")
	f.BoolVar(&s.o.AllowPrivate, "allow-private", false, "the metadata may name private addresses")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.begun = true // cobra has accepted the flags and the arguments
		tx, err := s.open(args)
		if err != nil {
			return err
		}
		defer tx.Close()
		return run(cmd.Context(), s, tx)
	}
	return cmd
}

// check returns a fault of the flags.
func (s *streamFlags) check(cmd *cobra.Command, args []string) error {
	given := ""
	for _, name := range []string{"transmitter", "metadata-url", "token-file", "token-url", "client-id", "client-secret-file", "scope", "ca-file", "allow-http", "allow-private"} {
		if cmd.Flags().Changed(name) {
			given = name
		}
	}
	c := &s.o.Credential
	switch {
	case s.config == "" && len(args) > 0:
		return usage("the intake %q is one of a configuration; name its file with --config", args[0])
	case s.config == "" && s.o.Issuer == "":
		return usage("name the transmitter: --config FILE INTAKE, or --transmitter URL")
	case s.config != "" && given != "":
		return usage("--%s is not for --config, whose intake names the transmitter and the credential", given)
	case s.config != "":
		return exactly("the name of an intake in "+s.config)(cmd, args)
	case (s.tokenFile == "") == (c.TokenURL == ""):
		return usage("one credential is needed: --token-file, or --token-url with --client-id and --client-secret-file")
	case (c.TokenURL == "") != (c.ClientID == "") || (c.TokenURL == "") != (s.secretFile == ""):
		return usage("--token-url, --client-id and --client-secret-file belong together")
	}
	return nil
}

// open returns a client of the transmitter. It makes no request yet.
func (s *streamFlags) open(args []string) (*stream.Transmitter, error) {
	o := s.o
	switch {
	case s.config != "":
		entry, err := s.intake(args[0])
		if err != nil {
			return nil, err
		}
		o = entry.StreamOptions()
		s.id = cmp.Or(s.id, entry.Stream)
	case s.tokenFile != "":
		o.Credential.Token = config.SecretFrom(s.tokenFile)
	default:
		o.Credential.Secret = config.SecretFrom(s.secretFile)
	}
	tx, err := stream.Open(o)
	if err != nil {
		return nil, usage("%w", err)
	}
	return tx, nil
}

// intake returns the entry of the configuration.
func (s *streamFlags) intake(name string) (*config.SSF, error) {
	c, err := config.ReadControl(s.config)
	if err != nil {
		return nil, &failure{status: statusUsage, message: "the configuration cannot be used:", hint: err.Error(), cause: err}
	}
	var names []string
	for i := range c.Intakes {
		entry, is := c.Intakes[i].Settings.(*config.SSF)
		switch {
		case is && c.Intakes[i].Name == name && entry.Management == nil:
			return nil, usage("the intake %q of %s has no management, which holds the credential for the transmitter", name, s.config)
		case is && c.Intakes[i].Name == name:
			return entry, nil
		case is:
			names = append(names, c.Intakes[i].Name)
		}
	}
	return nil, usage("%s has no intake %q of Shared Signals; it has %s", s.config, name, orNone(strings.Join(names, ", ")))
}

func orNone(list string) string {
	if list == "" {
		return "none"
	}
	return list
}

// one returns the stream that the command is about: that of the ID, or the only
// one.
func (s *streamFlags) one(ctx context.Context, tx *stream.Transmitter) (*stream.Stream, error) {
	if s.id != "" {
		return tx.Stream(ctx, s.id)
	}
	all, err := tx.Streams(ctx)
	switch {
	case err != nil:
		return nil, err
	case len(all) == 0:
		return nil, &failure{status: statusFailed, message: "the transmitter has no stream for this receiver", hint: "rescind stream create makes one"}
	case len(all) > 1:
		var ids []string
		for i := range all {
			ids = append(ids, printable.Quote(all[i].ID))
		}
		return nil, usage("the transmitter has several streams for this receiver; pick one with --id: %s", strings.Join(ids, ", "))
	}
	return &all[0], nil
}

func (a *app) streamCreate() *cobra.Command {
	var endpoint, authorizationFile, description string
	var events []string
	cmd := a.streamAction("create", "Make a stream, and print the lines for control.yaml", "--transmitter https://idp.example.com/realms/shop --token-file signals.token", func(ctx context.Context, _ *streamFlags, tx *stream.Transmitter) error {
		asked := &stream.Stream{Delivery: stream.Delivery{Method: stream.Poll}, EventsRequested: ssf.Requested(), Description: description}
		if err := named(events, asked); err != nil {
			return err
		}
		if endpoint == "" && authorizationFile != "" {
			return usage("--authorization-file is for pushes; name the URL of the intake with --endpoint")
		}
		if endpoint != "" {
			header, err := headerOf(authorizationFile)
			if err != nil {
				return err
			}
			asked.Delivery = stream.Delivery{Method: stream.Push, Endpoint: endpoint, Authorization: header}
		}
		made, err := tx.Create(ctx, asked)
		if errors.Is(err, stream.ErrExists) {
			return a.existing(ctx, tx, err)
		}
		if err != nil {
			return err
		}
		return a.printStream(ctx, tx, made, asked.Delivery.Authorization)
	})
	cmd.Flags().StringVar(&endpoint, "endpoint", "", "push events to this `URL` of the intake, https://HOST/intake/NAME/events; without it they are polled")
	cmd.Flags().StringVar(&authorizationFile, "authorization-file", "", "`file` with the Authorization header of pushes; without it a random one is made")
	cmd.Flags().StringVar(&description, "description", "rescind", "`text` that the transmitter keeps with the stream")
	cmd.Flags().StringSliceVar(&events, "event", nil, "`type` of events to ask for, by short name or URI (repeatable); the default is each that does something")
	return cmd
}

// named sets the events that the operator names.
func named(events []string, asked *stream.Stream) error {
	if len(events) == 0 {
		return nil
	}
	asked.EventsRequested = nil
	for _, name := range events {
		uri, err := ssf.EventType(name)
		if err != nil {
			return usage("--event: %w", err)
		}
		asked.EventsRequested = append(asked.EventsRequested, uri)
	}
	return nil
}

// headerOf returns the Authorization header of pushes. Only the transmitter keeps
// a random one.
func headerOf(path string) (string, error) {
	if path == "" {
		return "Bearer " + rand.Text() + rand.Text(), nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", usage("--authorization-file: %w", err)
	}
	header := strings.TrimRight(string(text), "\r\n")
	if header == "" || strings.ContainsFunc(header, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", usage("%s must hold one line of visible ASCII, such as Bearer TOKEN", path)
	}
	return header, nil
}

// existing shows the stream that the transmitter has in the place of a new one.
func (a *app) existing(ctx context.Context, tx *stream.Transmitter, cause error) error {
	all, err := tx.Streams(ctx)
	if err != nil {
		return err
	}
	for i := range all {
		if err := a.printStream(ctx, tx, &all[i], ""); err != nil {
			return err
		}
	}
	return &failure{status: statusFailed, message: cause.Error(), hint: "it is shown above; rescind stream delete --id ID removes it", cause: cause}
}

func (a *app) streamShow() *cobra.Command {
	return a.streamAction("show", "Show a stream, its status, and the lines for control.yaml", "--config control.yaml okta", func(ctx context.Context, s *streamFlags, tx *stream.Transmitter) error {
		one, err := s.one(ctx, tx)
		if err != nil {
			return err
		}
		return a.printStream(ctx, tx, one, "")
	})
}

func (a *app) streamVerify() *cobra.Command {
	var state string
	cmd := a.streamAction("verify", "Ask for a verification event", "--config control.yaml okta", func(ctx context.Context, s *streamFlags, tx *stream.Transmitter) error {
		one, err := s.one(ctx, tx)
		if err == nil {
			err = tx.Verify(ctx, one.ID, state)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.out, "a verification event of stream %s was asked for; rescind intakes shows when the intake last heard from the transmitter\n", printable.Quote(one.ID))
		return err
	})
	cmd.Flags().StringVar(&state, "state", "", "`text` of the event, for transmitters that demand one")
	return cmd
}

func (a *app) streamStatus(name, short, status string) *cobra.Command {
	var reason string
	cmd := a.streamAction(name, short, "--config control.yaml okta", func(ctx context.Context, s *streamFlags, tx *stream.Transmitter) error {
		one, err := s.one(ctx, tx)
		if err == nil {
			err = tx.SetStatus(ctx, stream.Status{ID: one.ID, Status: status, Reason: reason})
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.out, "stream %s is %s\n", printable.Quote(one.ID), status)
		return err
	})
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the transmitter")
	return cmd
}

func (a *app) streamDelete() *cobra.Command {
	return a.streamAction("delete", "Delete a stream; no more events come", "--config control.yaml okta", func(ctx context.Context, s *streamFlags, tx *stream.Transmitter) error {
		if s.id == "" {
			return usage("name the stream with --id; rescind stream show shows it")
		}
		if err := tx.Delete(ctx, s.id); err != nil {
			return err
		}
		_, err := fmt.Fprintf(a.out, "stream %s is deleted\n", printable.Quote(s.id))
		return err
	})
}

// sumOf returns the SHA-256 of a header in hex.
func sumOf(header string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(header))) }
