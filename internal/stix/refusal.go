package stix

import "unicode"

// BundleError says why a bundle is refused, where, and what to do. It repeats
// nothing of the bundle but names on the way to the place.
type BundleError struct {
	// Pointer is the JSON pointer (RFC 6901) of the place; empty means the whole
	// document. Characters that do not print are left out and a long pointer is
	// cut to 200 characters.
	Pointer string
	// English and JapaneseText are the reason with what to do next.
	English, JapaneseText string
}

// Error says it in English.
func (e *BundleError) Error() string {
	if e.Pointer == "" {
		return "STIX bundle: " + e.English
	}
	return "STIX bundle at " + e.Pointer + ": " + e.English
}

// Japanese says it in Japanese.
func (e *BundleError) Japanese() string {
	if e.Pointer == "" {
		return "STIXバンドル: " + e.JapaneseText
	}
	return "STIXバンドルの " + e.Pointer + ": " + e.JapaneseText
}

// presentable makes a pointer safe to print: names in it come from the document.
func presentable(pointer string) string {
	const limit = 200
	kept := make([]rune, 0, min(limit, len(pointer)))
	for _, r := range pointer {
		if !unicode.IsPrint(r) {
			continue
		}
		if len(kept) == limit {
			kept[limit-1] = '…'
			break
		}
		kept = append(kept, r)
	}
	return string(kept)
}
