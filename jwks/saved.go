package jwks

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/renameio/v2"
)

// savedVersion is the version of the format.
const savedVersion = 1

// saved is the file of the last good document, for a start while the issuer is
// down. The file is one line of JSON that names the issuer and the source, and
// then the document as it came. The line guards against damage, and against a
// file that was moved here from another issuer or source. It does not guard
// against an attacker with write access, who can choose the issuer's keys.
type saved struct {
	path           string // empty: the document is not kept
	issuer, source string
}

type savedHeader struct {
	Version   int       `json:"version"`
	Issuer    string    `json:"issuer"`
	Source    string    `json:"source"`
	FetchedAt time.Time `json:"fetched_at"`
	SHA256    string    `json:"sha256"` // of the document
}

func newSaved(o Options) saved {
	s := saved{issuer: o.Issuer, source: newSource(o).name()}
	if o.Dir != "" && o.File == "" { // a local file needs no copy, and may be removed on purpose
		s.path = filepath.Join(o.Dir, "jwks-"+digest([]byte(o.Issuer))[:32]+".json")
	}
	return s
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (s saved) write(document []byte, at time.Time) error {
	if s.path == "" {
		return nil
	}
	text, err := json.Marshal(savedHeader{savedVersion, s.issuer, s.source, at.UTC(), digest(document)})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(s.path, append(append(text, '\n'), document...), 0o600)
}

// read returns the document and its time, or nil and no error if none was kept.
// A file that is damaged, or of another issuer, is renamed for the operator to
// look at. A file of another source is an error and stays.
func (s saved) read() (document []byte, at time.Time, err error) {
	if s.path == "" {
		return nil, at, nil
	}
	text, err := readFile(s.path, maxDocument+64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, at, nil
	}
	if unreadable := (*fs.PathError)(nil); errors.As(err, &unreadable) {
		return nil, at, err
	}
	var h savedHeader
	if err == nil {
		document, h, err = s.check(text)
	}
	if err != nil {
		aside := s.path + ".damaged"
		if err := os.Rename(s.path, aside); err != nil {
			return nil, at, err
		}
		return nil, at, fmt.Errorf("%w; the file was renamed to %s", err, aside)
	}
	if h.Source != s.source {
		return nil, at, fmt.Errorf("the keys are from %q, which is not configured any more", h.Source)
	}
	if now := time.Now(); h.FetchedAt.After(now) {
		h.FetchedAt = now // a clock was wrong, which must not let keys outlive max_stale
	}
	return document, h.FetchedAt, nil
}

func (s saved) check(text []byte) (document []byte, h savedHeader, err error) {
	line, document, _ := bytes.Cut(text, []byte("\n"))
	err = json.Unmarshal(line, &h, json.RejectUnknownMembers(true))
	switch {
	case err != nil:
		return nil, h, fmt.Errorf("the first line is not one that rescind writes: %w", err)
	case h.Version != savedVersion:
		return nil, h, fmt.Errorf("the file has version %d, not %d", h.Version, savedVersion)
	case h.Issuer != s.issuer:
		return nil, h, fmt.Errorf("the file is of issuer %q", h.Issuer)
	case h.SHA256 != digest(document):
		return nil, h, errors.New("the digest does not fit the document")
	}
	return document, h, nil
}
