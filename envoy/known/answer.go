package known

import "encoding/binary"

// answer returns the answer of a token as the module reads it, or nil if it has no
// place in an entry.
func (t *Table) answer(token *Token) []byte {
	b := make([]byte, 0, t.stride-entryHead)
	item := func(kind, number int, value string) {
		b = append(b, byte(kind), byte(number))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
		b = append(b, value...)
	}
	for _, h := range token.Set {
		number, ok := t.names[h.Name]
		if !ok || !isValue(h.Value) {
			return nil
		}
		item(itemHeader, number, h.Value)
	}
	for _, named := range []struct {
		kind int
		text string
	}{{itemIssuer, token.Issuer}, {itemSubject, token.Subject}, {itemTokenID, token.TokenID}} {
		switch number := t.numberOf(token.Set, named.text); {
		case named.text == "":
		case number >= 0:
			b = append(b, byte(named.kind), byte(number))
			b = binary.LittleEndian.AppendUint16(b, sameValue)
		case !isValue(named.text):
			return nil
		default:
			item(named.kind, 0, named.text)
		}
	}
	if len(b) > min(maxAnswer, t.stride-entryHead) {
		return nil
	}
	return b
}

// numberOf returns the number of a header with this value, or -1.
func (t *Table) numberOf(set []Header, value string) int {
	for _, h := range set {
		if h.Value == value {
			return t.names[h.Name]
		}
	}
	return -1
}

// isValue reports whether Envoy accepts s as the value of a header: visible ASCII,
// with spaces within.
func isValue(s string) bool {
	if s == "" || s[0] == ' ' || s[len(s)-1] == ' ' {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
