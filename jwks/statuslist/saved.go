package statuslist

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"rescind/jwks/fetch"
)

// A file in Dir holds the last good Status List Token of one URI, for the next
// start. Its first line is JSON that names the URI and the time of the fetch, and
// the token follows as it came. The token is verified again when it is read, so the
// file can give nothing that the issuer did not sign.

// savedVersion is the version of the format.
const savedVersion = 1

// saveEvery is how often a list is written whose statuses do not change.
const saveEvery = 10 * time.Minute

type savedHeader struct {
	Version   int       `json:"version"`
	URI       string    `json:"uri"`
	FetchedAt time.Time `json:"fetched_at"`
}

// savedPrefix begins the names of the files of an issuer.
func (o *Options) savedPrefix() string {
	return filepath.Join(o.Dir, "statuslist-"+digest(o.Issuer)+"-")
}

func (o *Options) savedPath(uri string) string { return o.savedPrefix() + digest(uri) + ".jwt" }

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}

// savedURIs returns the URIs of the lists on disk that are allowed. It removes the
// files of all others.
func (o *Options) savedURIs() (uris []string) {
	if o.Dir == "" {
		return nil
	}
	paths, err := filepath.Glob(o.savedPrefix() + "*.jwt")
	if err != nil {
		return nil // the pattern is ours
	}
	for _, path := range paths {
		header, _, err := o.readSaved(path)
		if err != nil || !o.allows(header.URI) || path != o.savedPath(header.URI) {
			_ = os.Remove(path)
			continue
		}
		uris = append(uris, header.URI)
	}
	return uris
}

// readSaved reads a file.
func (o *Options) readSaved(path string) (h savedHeader, token string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return h, "", err
	}
	defer f.Close() //nolint:errcheck // it was only read
	text, err := fetch.Limited(f, int64(o.MaxResponse)+64<<10)
	if err != nil {
		return h, "", err
	}
	line, rest, _ := bytes.Cut(text, []byte("\n"))
	if err := json.Unmarshal(line, &h); err != nil {
		return h, "", fmt.Errorf("the first line is not one that rescind writes: %w", err)
	}
	if h.Version != savedVersion {
		return h, "", fmt.Errorf("the file has version %d, not %d", h.Version, savedVersion)
	}
	return h, string(rest), nil
}

// restore takes the list of f from disk, if there is one. Status knows for how long
// it may be relied upon.
func (l *Lists) restore(ctx context.Context, f *followed) {
	if l.o.Dir == "" {
		return
	}
	h, token, err := l.o.readSaved(l.o.savedPath(f.uri))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var held *list
	if err == nil {
		if now := time.Now(); h.FetchedAt.After(now) {
			h.FetchedAt = now // a clock was wrong, which must not let a list outlive MaxAge
		}
		held, err = l.o.read(ctx, token, f.uri, h.FetchedAt)
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		l.log.Warn("status list on disk not used, waiting for the issuer", slog.String("uri", f.uri), slog.String("error", err.Error()))
	default:
		f.current.Store(held)
	}
}

// save writes a good list to disk, if its statuses have changed or it was written
// long ago.
func (l *Lists) save(f *followed, before, next *list, token []byte) {
	changed := before == nil || before.bits != next.bits || !bytes.Equal(before.statuses, next.statuses)
	if l.o.Dir == "" || !changed && next.fetched.Sub(f.saved) < saveEvery {
		return
	}
	header, err := json.Marshal(savedHeader{savedVersion, f.uri, next.fetched.UTC()})
	if err == nil {
		err = os.MkdirAll(l.o.Dir, 0o700)
	}
	if err == nil {
		err = renameio.WriteFile(l.o.savedPath(f.uri), append(append(header, '\n'), token...), 0o600)
	}
	if err != nil {
		l.log.Error("status list could not be written to disk, a restart while its server is down will not have it", slog.String("uri", f.uri), slog.String("error", err.Error()))
		return
	}
	f.saved = next.fetched
}
