package anonymizer

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestARansomNoteGoesWithoutWhatLeadsToTheVictim(t *testing.T) {
	for note, want := range map[string]string{
		"":                              "",
		"All your files are encrypted!": "All your files are encrypted!",
		"ファイルは暗号化されました。":                                     "ファイルは暗号化されました。",
		"chat: http://aaaabbbbccccdddd2345.onion/?id=42 now": "chat: [...] now",
		"abcdefghij234567.onion":                             "[...]",
		"ABCDEFGHIJ234567.ONION/login、急げ":                    "[...]、急げ",
		"mirror abcdefghij234567abcdefghij[.]onion":          "mirror [...][.]onion",
		"https://leak.example/victims/tokyo-port":            "https://leak.example/[...]",
		"https://leak.example?v=7":                           "https://leak.example/[...]",
		"see https://leak.example/ or http://leak.example":   "see https://leak.example/ or http://leak.example",
		"hxxps://leak.example/x「急」":                          "hxxps://leak.example/[...]「急」",
		"Your ID: 7F3A-91":                                   "Your ID: [...]",
		"personal id = 9x, key: y":                           "personal id = [...] key: [...]",
		"ID：ab12":                                            "ID：[...]",
		"user name: port password: z":                        "user name: [...] password: [...]",
		"valid: yes":                                         "valid: yes",
		"d41d8cd98f00b204e9800998ecf8427e":                   "[...]",
		"(0123456789abcde)":                                  "(0123456789abcde)",
		"(0123456789abcdef)":                                 "([...])",
		"123e4567-e89b-12d3-a456-426614174000.":              "[...].",
		"QWxsIHlvdXIgYmFzZSBhcmU=":                           "[...]",
		"read HOW_TO_RESTORE_YOUR_FILES.txt":                 "read HOW_TO_RESTORE_YOUR_FILES.txt",
		"abcdefghijklmnopqrst":                               "[...]",
		"------------------------":                           "------------------------",
		"mail attacker@evil.example":                         "mail attacker@evil.example",
	} {
		require.Equal(t, want, clean(note), note)
	}
}

func TestCleaningTwiceChangesNothing(t *testing.T) {
	pieces := []string{"http://", ".onion", "id", ":", "key=", "a", "0123456789abcdef", "/", "[...]", " ", "。", "QWxs", "=", "-", "?", "ID：", "x.example", "password"}
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(rapid.SampledFrom(pieces)).Draw(t, "pieces"), "")
		once := clean(text)
		require.Equal(t, once, clean(once), text)
		require.NotContains(t, once, "0123456789abcdef")
	})
}
