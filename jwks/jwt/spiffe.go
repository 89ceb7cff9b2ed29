package jwt

import "strings"

// SPIFFEIssuer returns the trust domain of the SPIFFE ID in sub, as
// spiffe://DOMAIN, or "" if sub is none. The JWTs of SPIFFE (JWT-SVID, section 3)
// have no iss, and the trust domain says whose keys sign them.
func (t *Token) SPIFFEIssuer() string {
	const scheme = "spiffe://"
	sub, _ := t.Claims["sub"].(string)
	rest, is := strings.CutPrefix(sub, scheme)
	if !is || len(sub) > 2048 {
		return ""
	}
	domain, path, _ := strings.Cut(rest, "/")
	if domain == "" || len(domain) > 255 || strings.ContainsFunc(domain, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
	}) {
		return ""
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." || strings.ContainsFunc(segment, notInPath) {
			return ""
		}
	}
	return scheme + domain
}

// IssuerName returns the name of the issuer that t belongs to: its iss, or without
// an iss the trust domain of its SPIFFE ID. It is "" if t has neither.
func (t *Token) IssuerName() string {
	if _, named := t.Claims["iss"]; named {
		return t.Issuer
	}
	return t.SPIFFEIssuer()
}

func notInPath(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
}
