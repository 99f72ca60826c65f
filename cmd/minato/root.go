package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// root is the whole tree of commands in the language of this run.
func (a *app) root() *cobra.Command {
	root := a.group("minato", about{
		short:   Text{"港湾のサイバーセキュリティ情報を共有します", "Share cyber-security information inside a port"},
		example: "minato report --tlp amber --to port-authority --title 'TOSに不審な通信' -m '22日未明から外部と通信'",
	})
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpFunc(a.help)
	root.SetFlagErrorFunc(a.flagError)
	root.SetHelpCommand(a.helpCommand())

	f := root.PersistentFlags()
	f.StringVar(&a.langFlag, "lang", a.langFlag, a.t("表示の言語 (`ja|en`)", "language, `ja|en`"))
	f.BoolVar(&a.json, "json", false, a.t("1行に1つのJSONで出力", "one JSON object a line on stdout"))
	f.BoolVarP(&a.quiet, "quiet", "q", false, a.t("案内を出さない", "no talk on stderr"))
	f.BoolVar(&a.noInput, "no-input", false, a.t("何も尋ねない", "never ask anything"))
	f.StringVar(&a.node, "node", "", a.t("ノードの`フォルダー` (既定: MINATO_NODE)", "`folder` of the node (default: MINATO_NODE)"))

	// Groups have no work of their own, so this runs before all real work.
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return a.checkLang() }

	root.AddCommand(
		a.reportCommand(),
		a.inboxCommand(),
		a.showCommand(),
		a.ackCommand(),
		a.forwardCommand(),
		a.stepCommand(),
		a.explainCommand(),
		a.narrowCommand(),
		a.outboxCommand(),
		a.draftsCommand(),
		a.membersCommand(),
		a.statusCommand(),
		a.nodeCommand(),
		a.hubCommand(),
		a.configCommand(),
		a.demoCommand(),
		a.versionCommand(),
	)
	return root
}

// about is what a person reads about a command.
type about struct {
	short   Text
	long    Text   // may be empty
	example string // a line that works, language of its content does not matter
}

// command makes a command that does work.
func (a *app) command(use string, is about, args cobra.PositionalArgs, run func(*cobra.Command, []string) error) *cobra.Command {
	c := a.describe(use, is)
	c.Args, c.RunE = args, run
	return c
}

// group makes a command that only holds others.
func (a *app) group(use string, is about) *cobra.Command {
	c := a.describe(use, is)
	c.Args = cobra.ArbitraryArgs
	c.SuggestionsMinimumDistance = 2
	// Otherwise an unknown command would be reported as an unknown flag of it.
	c.FParseErrWhitelist.UnknownFlags = true
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return a.unknownCommand(c, args[0])
		}
		if !c.HasParent() {
			return c.Help()
		}
		return usage(
			textf("%s だけでは何をするか決まりません", "%s alone does not say what to do", c.CommandPath()),
			textf("続けて打てるもの: %s", "go on with one of: %s", strings.Join(names(c), ", ")))
	}
	return c
}

func (a *app) describe(use string, is about) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: is.short.in(a.lang), Long: is.long.in(a.lang), Example: is.example,
		SilenceErrors: true, SilenceUsage: true, DisableFlagsInUseLine: true,
	}
}

func (a *app) unknownCommand(c *cobra.Command, name string) error {
	what := textf("%s に %q というコマンドはありません", "%s has no command %q", c.CommandPath(), cut(plain(name), 60))
	if near := c.SuggestionsFor(name); len(near) > 0 {
		return usage(what, textf("もしかして: %s %s", "did you mean: %s %s", c.CommandPath(), near[0]))
	}
	return usage(what, textf("一覧: %s --help", "see %s --help", c.CommandPath()))
}

// names are the commands below c.
func names(c *cobra.Command) []string {
	var out []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			out = append(out, sub.Name())
		}
	}
	return out
}

// exactly demands one argument for each name.
func (a *app) exactly(args ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		switch {
		case helpAll(c):
			return pflag.ErrHelp
		case len(given) < len(args):
			return usage(
				textf("%s の指定が足りません", "%s is missing", args[len(given)]),
				textf("例: %s", "for example: %s", firstLine(c.Example)))
		case len(given) > len(args):
			if c.HasSubCommands() && len(args) == 0 {
				return a.unknownCommand(c, given[0])
			}
			return usage(
				textf("余分な引数があります: %q", "there is an argument too many: %q", cut(plain(given[len(args)]), 60)),
				textf("空白を含む文は引用符で囲んでください。例: %s", "put text with spaces into quotes. For example: %s", firstLine(c.Example)))
		}
		return nil
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// flagError tells in both languages what pflag found.
func (a *app) flagError(c *cobra.Command, err error) error {
	next := textf("使い方: %s --help", "see %s --help", c.CommandPath())
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		name := "--" + e.GetSpecifiedName()
		if e.GetSpecifiedShortnames() != "" {
			name = "-" + e.GetSpecifiedName()
		}
		return usage(textf("%s に %s はありません", "%s has no %s", c.CommandPath(), cut(plain(name), 60)), next)
	}
	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return usage(textf("--%s には値が要ります", "--%s needs a value", e.GetFlag().Name), next)
	}
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		if e.GetFlag().Value.Type() == "duration" {
			next = Text{"時間は 30s, 5m, 24h のように書きます", "write a time as 30s, 5m or 24h"}
		}
		return usage(textf("--%s の値 %q は使えません", "--%s cannot be %q", e.GetFlag().Name, cut(plain(e.GetValue()), 60)), next)
	}
	return usage(textf("オプションを読めません: %s", "cannot read the flags: %s", plain(err.Error())), next)
}

func (a *app) helpCommand() *cobra.Command {
	return a.command("help [COMMAND]...", about{
		short:   Text{"コマンドの使い方を表示します", "Show how a command is used"},
		example: "minato help report",
	}, cobra.ArbitraryArgs, func(c *cobra.Command, args []string) error {
		found, rest, err := c.Root().Find(args)
		if err != nil || len(rest) > 0 && found.HasSubCommands() {
			name := strings.Join(args, " ")
			return a.unknownCommand(c.Root(), name)
		}
		found.InitDefaultHelpFlag()
		return found.Help()
	})
}

// help prints one screen about a command on stdout.
func (a *app) help(c *cobra.Command, _ []string) {
	if helpAll(c) {
		fmt.Fprint(a.out, a.rareText(c))
		return
	}
	fmt.Fprint(a.out, a.helpText(c))
}

// rareIs marks a flag that stands on the second page of help, with its heading.
const rareIs = "rare"

// rare moves flags to the second page of help.
func (a *app) rare(c *cobra.Command, heading Text, flags ...string) {
	for _, name := range flags {
		c.Flags().Lookup(name).Annotations = map[string][]string{rareIs: {heading.in(a.lang)}}
	}
	if c.Flags().Lookup("help-all") == nil {
		c.Flags().Bool("help-all", false, a.t("まれに使うオプション: 取扱制限、同意など", "flags that are rarely used: restrictions, consents, ..."))
	}
}

func helpAll(c *cobra.Command) bool {
	f := c.Flags().Lookup("help-all")
	return f != nil && f.Value.String() == "true"
}

// rareText is the second page of help: the flags that are rarely used.
func (a *app) rareText(c *cobra.Command) string {
	rows := map[string][][2]string{}
	c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		for _, heading := range f.Annotations[rareIs] {
			rows[heading] = append(rows[heading], [2]string{flagName(f), a.flagUsage(f)})
		}
	})
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", fmt.Sprintf(a.t("%s のまれに使うオプション", "Flags of %s that are rarely used"), c.CommandPath()))
	for _, heading := range []Text{rareHandling, rareConsent, rareContent, rareSending} {
		if rows := rows[heading.in(a.lang)]; len(rows) > 0 {
			fmt.Fprintf(&b, "\n%s\n%s", heading.in(a.lang), twoColumns(rows))
		}
	}
	fmt.Fprintf(&b, "\n%s\n", fmt.Sprintf(a.t("ほかのオプション: %s --help", "The other flags: %s --help"), c.CommandPath()))
	return b.String()
}

func (a *app) helpText(c *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintln(&b, c.Short)
	if c.Long != "" {
		fmt.Fprintf(&b, "\n%s\n", c.Long)
	}
	line := c.UseLine()
	if c.HasSubCommands() && c.Args != nil && len(strings.Fields(c.Use)) == 1 {
		line += a.t(" コマンド", " COMMAND")
	}
	fmt.Fprintf(&b, "\n%s\n  %s\n", a.t("使い方:", "Usage:"), line)
	if c.Example != "" {
		fmt.Fprintf(&b, "\n%s\n", a.t("例:", "Example:"))
		for example := range strings.SplitSeq(c.Example, "\n") {
			fmt.Fprintf(&b, "  %s\n", example)
		}
	}
	if subs := names(c); len(subs) > 0 {
		var rows [][2]string
		for _, sub := range c.Commands() {
			if slices.Contains(subs, sub.Name()) {
				rows = append(rows, [2]string{sub.Name(), sub.Short})
			}
		}
		fmt.Fprintf(&b, "\n%s\n%s", a.t("コマンド:", "Commands:"), twoColumns(rows))
	}
	var rows [][2]string
	c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && !f.Hidden && len(f.Annotations[rareIs]) == 0 {
			rows = append(rows, [2]string{flagName(f), a.flagUsage(f)})
		}
	})
	if len(rows) > 0 {
		fmt.Fprintf(&b, "\n%s\n%s", a.t("オプション:", "Flags:"), twoColumns(rows))
	}
	if !c.HasParent() {
		rows = nil
		c.PersistentFlags().VisitAll(func(f *pflag.Flag) { rows = append(rows, [2]string{flagName(f), a.flagUsage(f)}) })
		fmt.Fprintf(&b, "\n%s\n%s", a.t("どのコマンドにも:", "Every command:"), twoColumns(rows))
		fmt.Fprintf(&b, "\n%s\n", a.t("終了コード: 0 完了, 1 失敗, 2 使い方か入力の誤り, 3 方針により拒否, 4 未参加か権限なし,\n  5 ハブに届かず端末に保存 (このままで安全), 6 検査に不合格",
			"Exit codes: 0 done, 1 failed, 2 wrong usage or input, 3 refused by policy,\n  4 not enrolled or not allowed, 5 queued on this machine (safe to leave), 6 a check did not pass"))
		return b.String()
	}
	fmt.Fprintf(&b, "\n%s\n", a.t("どのコマンドにも: --node --lang --json -q --no-input (minato --help)",
		"Every command: --node --lang --json -q --no-input (minato --help)"))
	return b.String()
}

func flagName(f *pflag.Flag) string {
	value, _ := pflag.UnquoteUsage(f)
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	if value != "" {
		name += " " + value
	}
	return name
}

func (a *app) flagUsage(f *pflag.Flag) string {
	_, text := pflag.UnquoteUsage(f)
	switch f.DefValue {
	case "", "false", "0", "0s", "[]":
		return text
	}
	if f.Name == "lang" {
		return text
	}
	return text + fmt.Sprintf(a.t(" (既定: %s)", " (default: %s)"), f.DefValue)
}

// twoColumns aligns by the width on screen: a Japanese character takes two
// columns.
func twoColumns(rows [][2]string) string {
	width := 0
	for _, row := range rows {
		width = max(width, lipgloss.Width(row[0]))
	}
	var b strings.Builder
	for _, row := range rows {
		fmt.Fprintf(&b, "  %s%s  %s\n", row[0], strings.Repeat(" ", width-lipgloss.Width(row[0])), row[1])
	}
	return b.String()
}
