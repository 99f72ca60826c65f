package tlp

import (
	"fmt"
	"strings"
	"unicode"
)

// ParseError says that a text is not a label and what to write instead.
type ParseError struct {
	// Input is the refused text without surrounding space, control and
	// bidirectional characters, cut to 40 characters. It is empty when nothing
	// readable was given.
	Input string
	// Suggestion is the label that was probably meant, as FIRST writes it. It is
	// empty when there is no safe guess.
	Suggestion string
}

// Error says it in English.
func (e *ParseError) Error() string {
	const all = "TLP:CLEAR, TLP:GREEN, TLP:AMBER, TLP:AMBER+STRICT or TLP:RED"
	switch {
	case e.Input == "":
		return "the TLP label is missing; write one of " + all
	case e.Suggestion != "":
		return fmt.Sprintf("%q is not a TLP label; write %s if that is meant", e.Input, e.Suggestion)
	}
	return fmt.Sprintf("%q is not a TLP label; write one of %s", e.Input, all)
}

// Japanese says it in Japanese.
func (e *ParseError) Japanese() string {
	const all = "TLP:CLEAR、TLP:GREEN、TLP:AMBER、TLP:AMBER+STRICT、TLP:RED のどれか"
	switch {
	case e.Input == "":
		return "TLPラベルがありません。" + all + "を書いてください。"
	case e.Suggestion != "":
		return fmt.Sprintf("「%s」はTLPラベルではありません。%s のことであれば、そのとおりに書いてください。", e.Input, e.Suggestion)
	}
	return fmt.Sprintf("「%s」はTLPラベルではありません。%sを書いてください。", e.Input, all)
}

// inputLimit is the most characters of a refused text that a message repeats.
const inputLimit = 40

// presentable makes a refused text safe to print in a message.
func presentable(s string) string {
	kept := make([]rune, 0, inputLimit)
	for _, r := range s {
		if unicode.IsSpace(r) {
			r = ' '
		}
		if !unicode.IsPrint(r) {
			continue
		}
		if len(kept) == inputLimit {
			kept[inputLimit-1] = '…'
			break
		}
		kept = append(kept, r)
	}
	return strings.TrimSpace(string(kept))
}

// suggest guesses the label that a refused text means. It compares letters only,
// whatever their width or case and whatever stands between them, and never
// guesses from a part of a word: UNCLEAR is not CLEAR.
func suggest(s string) Label {
	const enough = 64 // bytes; nothing longer is a misspelt label
	if len(s) > enough {
		return Unlabelled
	}
	var letters strings.Builder
	for _, r := range s {
		if '！' <= r && r <= '～' { // full-width forms of ASCII
			r -= '！' - '!'
		}
		if unicode.IsLetter(r) || unicode.IsNumber(r) || r == 'ー' {
			letters.WriteRune(unicode.ToUpper(unicode.ToLower(r)))
		}
	}
	switch word := letters.String(); strings.TrimPrefix(word, "TLP") {
	case "CLEAR", "WHITE", "クリア", "クリアー", "ホワイト", "白":
		return Clear
	case "GREEN", "グリーン", "緑":
		return Green
	case "AMBER", "ORANGE", "YELLOW", "アンバー", "オレンジ", "イエロー", "琥珀", "橙", "黄", "黄色":
		return Amber
	case "AMBERSTRICT", "STRICT", "STRICTAMBER", "AMBERPLUSSTRICT", "アンバーストリクト":
		return AmberStrict
	case "RED", "レッド", "赤":
		return Red
	}
	return Unlabelled
}
