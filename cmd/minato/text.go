package main

import "fmt"

// Text is a message to a person in both languages.
type Text struct{ JA, EN string }

// language is the language of the output.
type language string

const (
	japanese language = "ja"
	english  language = "en"
)

// in is the text in one language.
func (t Text) in(l language) string {
	if l == english {
		return t.EN
	}
	return t.JA
}

// textf formats both languages with the same arguments. An argument that is a
// Text appears in the language of the format.
func textf(ja, en string, args ...any) Text {
	inEach := func(l language) []any {
		out := make([]any, len(args))
		for i, arg := range args {
			if t, ok := arg.(Text); ok {
				arg = t.in(l)
			}
			out[i] = arg
		}
		return out
	}
	return Text{JA: fmt.Sprintf(ja, inEach(japanese)...), EN: fmt.Sprintf(en, inEach(english)...)}
}
