package authz

import (
	"bytes"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"rescind/jwks/jwt"
)

// Encoding says how a claim is written into a header.
type Encoding int

// The encodings. Plain is for values that need no quoting. Percent carries every
// text: each element of an array is percent-encoded, and a space stands between
// two. Base64URL carries the bytes of a string, or the JSON of any other claim.
const (
	Plain Encoding = iota
	Percent
	Base64URL
)

// Encodings are the names of the encodings in the configuration.
var Encodings = map[string]Encoding{"plain": Plain, "percent": Percent, "base64url": Base64URL}

// header returns the value of a header that carries c. The value is empty if the
// token has none of the claims, or if the claim cannot be written. present
// reports whether the token has the claim.
func (t *verified) header(c HeaderClaim) (value string, present bool) {
	if t == nil {
		return "", false
	}
	for _, name := range c.Claims {
		claim, has := name.In(t.Claims)
		present = present || has
		if claim == nil {
			continue
		}
		if n, number := claim.(json.Number); number && slices.Contains(dates, name) {
			claim = wholeSeconds(n)
		}
		if value, ok := headerValue(claim, c.Encoding); ok {
			return value, true
		}
		return "", true
	}
	return "", present
}

// payload returns the second segment of the token.
func (t *verified) payload() string {
	_, payload, _ := strings.Cut(t.Signed, ".")
	return payload
}

// dates are the claims that are a NumericDate.
var dates = []jwt.ClaimName{jwt.MemberName("exp"), jwt.MemberName("iat"), jwt.MemberName("nbf"), jwt.MemberName("auth_time")}

// wholeSeconds returns a NumericDate without its fraction and its exponent, or
// nil for a number that is no date.
func wholeSeconds(n json.Number) any {
	d := jwt.DateOf(n)
	switch {
	case !d.Set:
		return nil
	case !strings.ContainsAny(string(n), ".eE-"):
		return n
	}
	return json.Number(strconv.FormatInt(d.Micros/1e6, 10))
}

// headerValue returns a claim as the value of a header. ok is false if the
// encoding cannot write the claim.
func headerValue(claim any, e Encoding) (value string, ok bool) {
	if e == Base64URL {
		return encoded(claim)
	}
	write := plainText
	if e == Percent {
		write = percentText
	}
	array, many := claim.([]any)
	if !many {
		return write(claim)
	}
	values := make([]string, len(array))
	for i, element := range array {
		values[i], ok = write(element)
		// A space separates two elements, so an element with one would be
		// read as two.
		if !ok || strings.Contains(values[i], " ") {
			return "", false
		}
	}
	return strings.Join(values, " "), len(values) > 0
}

// plainText returns a string of visible ASCII with spaces inside, or a number or
// boolean as JSON writes it.
func plainText(claim any) (string, bool) {
	text, ok := scalarText(claim)
	return text, ok && isPlain(text)
}

// percentText returns a scalar in which every byte is percent-encoded that is
// not an unreserved character of RFC 3986.
func percentText(claim any) (string, bool) {
	text, ok := scalarText(claim)
	return strings.ReplaceAll(url.QueryEscape(text), "+", "%20"), ok && text != ""
}

// encoded returns base64url of the bytes of a string, or of the JSON of any
// other claim.
func encoded(claim any) (string, bool) {
	if claim == nil {
		return "", false
	}
	if text, ok := claim.(string); ok {
		return base64url.EncodeToString([]byte(text)), text != ""
	}
	var b bytes.Buffer
	to := json.NewEncoder(&b)
	to.SetEscapeHTML(false)
	if err := to.Encode(claim); err != nil { // impossible for a value that was decoded from JSON
		return "", false
	}
	return base64url.EncodeToString(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), true
}

// scalarText returns the text of a string, a number or a boolean.
func scalarText(claim any) (string, bool) {
	switch v := claim.(type) {
	case string:
		return v, true
	case json.Number:
		return string(v), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && s[0] != ' ' && s[len(s)-1] != ' '
}
