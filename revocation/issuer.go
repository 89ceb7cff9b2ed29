package revocation

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"

	"rescind/revocation/printable"
)

// CheckIssuer returns an error unless iss can be the issuer of a token. An
// issuer is a StringOrURI of RFC 7519, section 2: any text, or a URI if the text
// has a colon. Examples are https://idp.example.com/, accounts.google.com,
// kubernetes/serviceaccount and did:web:example.com. CheckIssuer also refuses
// texts that are slips: a space at either end, an http URL without a host, and
// an http URL with a password, which logs would show.
func CheckIssuer(iss string) error {
	switch {
	case iss == "":
		return errors.New("is empty; write it exactly as iss in the tokens")
	case len(iss) > MaxIssuer:
		return fmt.Errorf("has %d bytes; at most %d are possible", len(iss), MaxIssuer)
	case strings.TrimSpace(iss) != iss:
		return errors.New("begins or ends with a space; remove it")
	}
	if err := printable.Check(iss); err != nil {
		return err
	}
	if !strings.Contains(iss, ":") {
		return nil
	}
	u, err := url.Parse(iss)
	switch {
	case err != nil || u.Scheme == "" || strings.ContainsFunc(iss, unicode.IsSpace):
		return fmt.Errorf("%.200q has a colon and is not a URI, so no token can have it as iss (RFC 7519, section 2); correct it", iss)
	case u.Scheme != "https" && u.Scheme != "http":
		return nil
	case u.Hostname() == "":
		return fmt.Errorf("%.200q is a URL without a host; write it as https://idp.example.com/", iss)
	case u.User != nil:
		return errors.New("has a user name or a password in it; remove them, because issuers appear in logs")
	case strings.Contains(iss, "#"):
		return errors.New("has a fragment (#), which the URL of an issuer never has; remove it")
	}
	return nil
}
