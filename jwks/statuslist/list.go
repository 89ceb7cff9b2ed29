package statuslist

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"rescind/jwks"
	"rescind/jwks/fetch"
	"rescind/jwks/jwt"
)

// list is one status list. It never changes.
type list struct {
	bits     uint64 // of one status: 1, 2, 4 or 8
	statuses []byte

	issuedAt time.Time     // iat of its token
	ttl      time.Duration // 0: its token has none
	expires  time.Time     // exp of its token; zero: it has none
	fetched  time.Time     // when its fetch began
	until    time.Time     // from here on it is not relied upon
}

// at returns the status at index. The first status of a byte is in its lowest
// bits.
func (l *list) at(index uint64) (Status, error) {
	per := 8 / l.bits
	if index/per >= uint64(len(l.statuses)) {
		return Invalid, ErrOutOfRange
	}
	return Status(uint64(l.statuses[index/per]) >> (index % per * l.bits) & (1<<l.bits - 1)), nil
}

// entries returns how many statuses the list has room for.
func (l *list) entries() int { return len(l.statuses) * 8 / int(l.bits) }

// read returns the list of a Status List Token that was fetched from uri by a
// request of this time. It fails unless a key of the options signed the token and
// every rule of the draft holds.
func (o *Options) read(ctx context.Context, text, uri string, at time.Time) (*list, error) {
	t, err := jwt.Parse(strings.TrimSpace(text))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the answer is not a Status List Token: %w", err)
	case t.Type != "statuslist+jwt":
		return nil, errors.New("the typ of the token's header is not statuslist+jwt")
	}
	keys, err := o.Keys.Find(ctx, t.KeyID, t.Algorithm)
	if err != nil {
		return nil, err
	}
	if !signed(t, keys) {
		return nil, jwks.ErrSignature
	}
	return o.accept(t, uri, at, time.Now())
}

func signed(t *jwt.Token, keys []jwks.Key) bool {
	for _, k := range keys {
		if jwks.Verify(t.Algorithm, k, t.Signed, t.Signature) == nil {
			return true
		}
	}
	return false
}

// accept returns the list of a token whose signature has been verified.
func (o *Options) accept(t *jwt.Token, uri string, fetched, now time.Time) (*list, error) {
	switch iss, named := t.Claims["iss"]; {
	case t.Claims["sub"] != any(uri):
		return nil, errors.New("sub is not the URI of the list, byte for byte")
	case named && iss != any(o.Issuer) && !o.ForeignKeys:
		return nil, errors.New("iss names another issuer; if another party signs the lists, configure its jwks_uri under status_lists")
	case !t.IssuedAt.Set:
		return nil, errors.New("iat is missing")
	case timeOf(t.IssuedAt).After(now.Add(o.Leeway)):
		return nil, errors.New("iat is in the future")
	case t.NotBefore.Set && timeOf(t.NotBefore).After(now.Add(o.Leeway)):
		return nil, errors.New("nbf is in the future")
	case t.Expires.Set && !timeOf(t.Expires).After(now):
		return nil, errors.New("the list has expired")
	}
	l := &list{issuedAt: timeOf(t.IssuedAt), fetched: fetched, until: fetched.Add(o.MaxAge)}
	if t.Expires.Set {
		l.expires = timeOf(t.Expires)
		if l.expires.Before(l.until) {
			l.until = l.expires
		}
	}
	var err error
	if l.ttl, err = ttl(t.Claims); err != nil {
		return nil, err
	}
	l.bits, l.statuses, err = o.statuses(t.Claims["status_list"])
	return l, err
}

func timeOf(d jwt.Date) time.Time { return time.UnixMicro(d.Micros) }

// ttl reads the claim ttl, a positive number of seconds. It returns 0 if there is
// none. A ttl above a day counts as a day, which is longer than any refresh.
func ttl(claims map[string]any) (time.Duration, error) {
	claim, present := claims["ttl"]
	if !present {
		return 0, nil
	}
	n, _ := claim.(json.Number)
	seconds, err := strconv.ParseFloat(n.String(), 64)
	if err != nil || math.IsNaN(seconds) || seconds <= 0 {
		return 0, errors.New("ttl is not a positive number")
	}
	return max(time.Duration(min(seconds, 86400)*float64(time.Second)), 1), nil
}

// statuses reads the claim status_list.
func (o *Options) statuses(claim any) (bits uint64, inflated []byte, err error) {
	object, ok := claim.(map[string]any)
	if !ok {
		return 0, nil, errors.New("status_list is not an object")
	}
	n, _ := object["bits"].(json.Number)
	switch n.String() {
	case "1", "2", "4", "8":
		bits = uint64(n[0] - '0')
	default:
		return 0, nil, errors.New("bits is not 1, 2, 4 or 8")
	}
	lst, ok := object["lst"].(string)
	if !ok {
		return 0, nil, errors.New("lst is not a text")
	}
	if strings.ContainsAny(lst, "\r\n") { // which the decoder would skip
		return 0, nil, errNotBase64
	}
	packed, err := base64.RawURLEncoding.Strict().DecodeString(lst)
	if err != nil {
		return 0, nil, errNotBase64
	}
	inflated, err = inflate(packed, o.MaxInflated)
	return bits, inflated, err
}

var errNotBase64 = errors.New("lst is not canonical base64url without padding")

// inflate unpacks zlib data (RFC 1950), at most limit bytes.
func inflate(packed []byte, limit int) ([]byte, error) {
	rest := bytes.NewReader(packed)
	z, err := zlib.NewReader(rest)
	if err != nil {
		return nil, fmt.Errorf("lst is not zlib data: %w", err)
	}
	text, err := fetch.Limited(z, int64(limit))
	switch {
	case errors.Is(err, fetch.ErrLarge):
		return nil, fmt.Errorf("the list is larger than %d bytes; raise max_inflated if that is right", limit)
	case err != nil:
		return nil, fmt.Errorf("lst is not zlib data: %w", err)
	case rest.Len() > 0:
		return nil, errors.New("lst has bytes behind its zlib data")
	}
	return text, nil
}
