package anonymizer

import "regexp"

// gone stands in a text where something was removed.
const gone = "[...]"

// Ransom notes lead to their victim by an id, a key, an address made for it.
var (
	onion = regexp.MustCompile(`(?i)(?:[a-z]+://)?[a-z0-9.-]*\.onion\b[^\s"'<>「」、。]*`)
	link  = regexp.MustCompile(`(?i)([a-z][a-z0-9+.-]*://[^\s/?#"'<>「」、。]+)[/?#][^\s"'<>「」、。]+`)
	keyed = regexp.MustCompile(`(?i)(\b(?:id|key|code|token|login|user ?name|password)\s*[:=：]\s*)[^\s"'<>「」、。]+`)
	long  = regexp.MustCompile(`[A-Za-z0-9+=_-][A-Za-z0-9+/=_-]{15,}`)
	dense = regexp.MustCompile(`[0-9]|[A-Za-z+/=]*[A-Za-z][A-Za-z+/=]{15,}`)
)

// clean is a text without what leads to the victim: .onion addresses; the path,
// query and fragment of URLs; what follows "ID:", "key=", "password:" and the
// like; and runs of 16 or more characters as hexadecimal, base64 and UUIDs have
// them. Words tied by _ or -, as in HOW_TO_RESTORE_FILES, stay. Cleaning twice
// changes nothing.
func clean(text string) string {
	text = onion.ReplaceAllString(text, gone)
	text = link.ReplaceAllString(text, "${1}/"+gone)
	text = keyed.ReplaceAllString(text, "${1}"+gone)
	return long.ReplaceAllStringFunc(text, func(run string) string {
		if !dense.MatchString(run) {
			return run
		}
		return gone
	})
}
