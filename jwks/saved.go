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

// savedVersion is that of the format.
const savedVersion = 1

// saved is the file that has the last good document, so that we can start while
// the issuer is down. It is one line of JSON that says whose and from where it
// is, and then the document as it came. Whoever can write to it can choose the
// issuer's keys; what it guards against is damage, and a file that was moved
// here from another issuer or source.
type saved struct {
	path           string // empty: nothing is kept
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
	if o.Dir != "" && o.File == "" { // a local file is there already, and may be taken away on purpose
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

// read returns nothing at all if nothing was kept. A file that is damaged, or
// not of this issuer, is set aside so that somebody can look at it; one of
// another source is just no longer right.
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
		return nil, at, fmt.Errorf("%w; it was set aside as %s", err, aside)
	}
	if h.Source != s.source {
		return nil, at, fmt.Errorf("they are from %q, which is not configured any more", h.Source)
	}
	if now := time.Now(); h.FetchedAt.After(now) {
		h.FetchedAt = now // a clock was wrong; they must not outlive max_stale for that
	}
	return document, h.FetchedAt, nil
}

func (s saved) check(text []byte) (document []byte, h savedHeader, err error) {
	line, document, _ := bytes.Cut(text, []byte("\n"))
	err = json.Unmarshal(line, &h, json.RejectUnknownMembers(true))
	switch {
	case err != nil:
		return nil, h, fmt.Errorf("its first line is not what we write: %w", err)
	case h.Version != savedVersion:
		return nil, h, fmt.Errorf("it has version %d, not %d", h.Version, savedVersion)
	case h.Issuer != s.issuer:
		return nil, h, fmt.Errorf("it is of issuer %q", h.Issuer)
	case h.SHA256 != digest(document):
		return nil, h, errors.New("its digest does not fit its content")
	}
	return document, h, nil
}
