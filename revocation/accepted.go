package revocation

// AcceptedIssuer is one issuer whose tokens a replica accepts, as the replica
// reports it to the control endpoint. The control endpoint uses it to refuse a
// revocation for an issuer that no replica accepts, and to recognize a target
// that matches every token of an issuer.
type AcceptedIssuer struct {
	Issuer      string // compared with iss, byte for byte
	Audiences   []string
	AnyAudience bool
	// Claims are the conditions of the issuer's configuration: by claim name,
	// the accepted values as the text that rescind shows for them.
	Claims map[string][]string
}
