package main

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestTextOfAReportCannotSteerATerminal(t *testing.T) {
	require.Equal(t, `\u{001B}[2J名古屋`, plain("\x1b[2J名古屋"))
	require.Equal(t, `report\u{202E}cod.exe`, plain("report\u202Ecod.exe"))
	require.Equal(t, `a\u{200B}b\u{FEFF}\u{2066}`, plain("a\u200Bb\uFEFF\u2066"))
	require.Equal(t, "一行目 二行目 三", plain("一行目\r\n二行目\t三"))
	require.Equal(t, "bad \uFFFD", plain("bad \xff"))
	require.Equal(t, "辻\U000E0100さん", plain("辻\U000E0100さん"), "variation selectors belong to Japanese names")
	require.Equal(t, `\u{E0041}`, plain("\U000E0041"))
	require.Equal(t, "  一\n  TLP:CLEAR\n\n  \\u{0007}", plainText("一\nTLP:CLEAR\n\n\a\n", "  "))
}

func TestNothingUnsafeIsLeft(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "text")
		for _, got := range []string{plain(s), strings.ReplaceAll(plainText(s, " "), "\n", ""), fileName(s), defang(s)} {
			require.Equal(t, -1, strings.IndexFunc(got, unsafeRune), "%q", got)
		}
		raw, err := json.Marshal(s)
		require.NoError(t, err)
		escaped := escapeUnsafe(string(raw), jsonEscape)
		require.Equal(t, -1, strings.IndexFunc(escaped, unicode.IsControl), "%q", escaped)
		var back string
		require.NoError(t, json.Unmarshal([]byte(escaped), &back))
		require.Equal(t, s, back, "escapes mean the same to a program")
	})
}

func TestFileNamesCannotLeaveTheFolder(t *testing.T) {
	for name, want := range map[string]string{
		"../../etc/passwd":       "passwd",
		`C:\Windows\evil.dll`:    "evil.dll",
		".bashrc":                "_bashrc",
		"..":                     "_",
		"/":                      "",
		"":                       "",
		"con.txt":                "_con.txt",
		"LPT1":                   "_LPT1",
		"a<b>:c?.log":            "a_b__c_.log",
		"report\u202Etxt.exe":    "reporttxt.exe",
		"メモ 2026.txt":            "メモ 2026.txt",
		"name. ":                 "name",
		"new\nline.csv":          "newline.csv",
		strings.Repeat("港", 100): strings.Repeat("港", 66),
	} {
		require.Equal(t, want, fileName(name), "%q", name)
	}
	rapid.Check(t, func(t *rapid.T) {
		got := fileName(rapid.String().Draw(t, "name"))
		require.NotContains(t, got, "/")
		require.NotContains(t, got, `\`)
		require.False(t, strings.HasPrefix(got, "."))
		require.LessOrEqual(t, len(got), 200)
		require.Equal(t, got, fileName(got), "a safe name stays")
	})
}

func TestIndicatorsAreShownDefanged(t *testing.T) {
	for value, want := range map[string]string{
		"203.0.113.7":                 "203[.]0[.]113[.]7",
		"bad.example":                 "bad[.]example",
		"http://bad.example/a.b?x=1":  "hxxp[://]bad[.]example/a.b?x=1",
		"HTTPS://bad.example":         "hxxps[://]bad[.]example",
		"who@bad.example":             "who[@]bad[.]example",
		"d41d8cd98f00b204e9800998ecf": "d41d8cd98f00b204e9800998ecf",
	} {
		require.Equal(t, want, defang(value))
	}
}
