package replica

import "sync/atomic"

// condition is a fault that holds until it is cleared. Readers take no lock. The
// zero value does not hold.
type condition struct{ text atomic.Pointer[string] }

// set makes the condition hold with this text. It reports whether the text is
// another one than before.
func (c *condition) set(text string) (changed bool) {
	old := c.text.Swap(&text)
	return old == nil || *old != text
}

func (c *condition) clear() { c.text.Store(nil) }

func (c *condition) holds() bool { return c.text.Load() != nil }

// String returns the text; "" if the condition does not hold.
func (c *condition) String() string {
	if text := c.text.Load(); text != nil {
		return *text
	}
	return ""
}
