package envoy

// fields calls visit for every field of a message that has a length: texts,
// bytes and messages. It returns false if the message is unreadable, or if
// visit returns false.
func fields(message string, visit func(number uint64, value string) bool) bool {
	for message != "" {
		tag, rest, ok := varint(message)
		number := tag >> 3
		if !ok || number == 0 || number > 1<<29-1 {
			return false
		}
		switch tag & 7 {
		case 0: // a varint
			_, rest, ok = varint(rest)
		case 1: // 64 bits
			rest, ok = skip(rest, 8)
		case 5: // 32 bits
			rest, ok = skip(rest, 4)
		case 2: // a length, and so many bytes
			var n uint64
			n, rest, ok = varint(rest)
			if !ok || n > uint64(len(rest)) || !visit(number, rest[:n]) {
				return false
			}
			rest = rest[n:]
		default: // groups, and wire types that do not exist
			return false
		}
		if !ok {
			return false
		}
		message = rest
	}
	return true
}

func skip(text string, n int) (rest string, ok bool) {
	if len(text) < n {
		return "", false
	}
	return text[n:], true
}

// varint reads a number of up to 64 bits.
func varint(text string) (n uint64, rest string, ok bool) {
	for i := 0; i < len(text) && i < 10; i++ {
		b := text[i]
		if i == 9 && b > 1 {
			return 0, "", false
		}
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return n, text[i+1:], true
		}
	}
	return 0, "", false
}
