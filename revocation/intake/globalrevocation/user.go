package globalrevocation

import (
	"errors"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rescind/revocation"
)

// user is the subject identifier of a request (RFC 9493). Either email is set, or
// issuer and subject are.
type user struct{ email, issuer, subject string }

// Errors of a body.
var (
	errBody     = errors.New("the body must be one JSON object with the member sub_id alone")
	errTwo      = errors.New("the body has sub_id and subject; send sub_id alone")
	errNoMember = errors.New("the body has no sub_id")
	errFormat   = errors.New("sub_id must be an object whose format is email or iss_sub")
	errEmail    = errors.New("sub_id of the format email must have the member email alone, an address of at most 1024 bytes")
	errIssSub   = errors.New("sub_id of the format iss_sub must have the members iss and sub alone, each of 1 to 1024 bytes")
)

// parseUser reads the body of a request. The member subject is the name of
// sub_id in earlier drafts.
func parseUser(body []byte) (user, error) {
	var doc struct {
		SubID   jsontext.Value `json:"sub_id"`
		Subject jsontext.Value `json:"subject"`
	}
	if err := json.Unmarshal(body, &doc, strict); err != nil {
		return user{}, errBody
	}
	switch {
	case doc.SubID != nil && doc.Subject != nil:
		return user{}, errTwo
	case doc.SubID == nil && doc.Subject == nil:
		return user{}, errNoMember
	case doc.SubID == nil:
		return parseIdentifier(doc.Subject)
	}
	return parseIdentifier(doc.SubID)
}

// strict refuses members that are not named. Duplicate members and invalid UTF-8
// are refused by default.
var strict = json.RejectUnknownMembers(true)

// parseIdentifier reads a subject identifier, which has the members of its format
// and no others.
func parseIdentifier(text jsontext.Value) (user, error) {
	var kind struct {
		Format string `json:"format"`
	}
	if err := json.Unmarshal(text, &kind); err != nil {
		return user{}, errFormat
	}
	switch kind.Format {
	case "email":
		var id struct {
			Format string `json:"format"`
			Email  string `json:"email"`
		}
		if err := json.Unmarshal(text, &id, strict); err != nil || !isAddress(id.Email) {
			return user{}, errEmail
		}
		return user{email: id.Email}, nil
	case "iss_sub":
		var id struct {
			Format  string `json:"format"`
			Issuer  string `json:"iss"`
			Subject string `json:"sub"`
		}
		if err := json.Unmarshal(text, &id, strict); err != nil || !isText(id.Issuer) || !isText(id.Subject) {
			return user{}, errIssSub
		}
		return user{issuer: id.Issuer, subject: id.Subject}, nil
	}
	return user{}, errFormat
}

func isText(s string) bool { return s != "" && len(s) <= revocation.MaxValue }

// isAddress reports whether s has the parts of an email address. The endpoint
// does not know which addresses there are.
func isAddress(s string) bool {
	at := strings.LastIndexByte(s, '@')
	return isText(s) && at > 0 && at < len(s)-1 && !strings.ContainsAny(s, " \t\r\n<>")
}

// spellings returns the address as it is written, and with its domain in lower
// case if that differs. The case of a domain means nothing, and a claim is
// compared byte for byte. The case of the part before it may mean something.
func spellings(address string) []string {
	at := strings.LastIndexByte(address, '@')
	lower := address[:at] + strings.ToLower(address[at:])
	if lower == address {
		return []string{address}
	}
	return []string{address, lower}
}
