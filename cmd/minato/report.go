package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	"minato.example/internal/ca"
	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// reportFlags are what a person says about a report.
type reportFlags struct {
	tlp, title, text, message   string
	stix                        string
	attach, attachTechnical, to []string
	community                   string
	exercise, plan, draft       bool
	events                      []string
	cause, impact               string
	caseID                      string
	file, from                  string
	wait                        time.Duration

	technical, reason     string
	notice, incident      bool
	systems, laws         []string
	designated            bool
	restrict              []string
	restrictText, expires string
	secrecy               string
	onward, derivedFrom   []string
	peerNamed, peerDamage bool
	cabinetShare          bool
	expertShare           bool
	yes, widens           bool
	flags                 *pflag.FlagSet // tells what a person has typed
	heldAs                string         // the draft that this began from

	parts []*partFile // what --stix and --attach name
	// filledBy says that a form filled the rest, so that a person can be asked
	// once more before the report is published.
	filledBy bool
}

func (a *app) reportCommand() *cobra.Command {
	var f reportFlags
	c := a.command("report --tlp LABEL --title T {-m TEXT | --text FILE}", about{
		short: Text{"報告を出します。要るのは TLP、件名、一文だけです", "Publish a report: a TLP label, a title and one sentence are enough"},
		long: Text{"ハブにつながらない時はこの端末に保存し、つながり次第送ります (終了コード 5)。",
			"Without the hub it is kept on this machine and sent later (exit code 5)."},
		example: "minato report --tlp amber --to port-authority --title 'TOSに不審な通信' -m '22日未明から外部と通信' --plan\n" +
			"minato report --tlp green --community operators --notice --title 不審な通信先 -m '203[.]0[.]113[.]7 を確認してください'",
	}, a.exactly(), func(c *cobra.Command, _ []string) error {
		if f.from != "" {
			return a.reportFrom(c.Context(), &f)
		}
		r, err := f.report(a)
		if err != nil {
			return err
		}
		if f.draft {
			return a.saveDraft(c.Context(), &f, r, "")
		}
		if err := a.need(f.missing(r)...); err != nil && !a.interactive() && !f.holds(r) {
			return err
		}
		if f.caseID == "" {
			return a.publish(c.Context(), &f, r, nil)
		}
		return a.publish(c.Context(), &f, r, func(ctx context.Context, n pb.NodeServiceClient) error {
			last, err := lastOfCase(ctx, n, f.caseID)
			if err != nil {
				return err
			}
			r.CaseId = last.GetCaseId()
			return sameLane(r, last)
		})
	})
	c.AddCommand(a.reportUpdateCommand(), a.reportWithdrawCommand(), a.reportRelabelCommand())

	a.contentFlags(c, &f)
	fl := c.Flags()
	fl.StringVar(&f.caseID, "case", "", a.t("続報にする事案の `ID`", "`ID` of the case that this follows up"))
	fl.BoolVar(&f.draft, "draft", false, a.t("出さずに下書きとして残す", "publish nothing, keep it as a draft"))
	fl.StringVar(&f.from, "from", "", a.t("下書きか拒否された報告の `ID` から始める", "start from a draft or a refused report, `ID`"))
	fl.BoolVar(&f.exercise, "exercise", false, a.t("訓練として出す", "this is an exercise"))
	fl.StringVar(&f.file, "file", "", a.t("報告全体のJSON `ファイル` (protojson; - は標準入力)", "JSON `file` with a whole report (protojson; - for stdin)"))
	a.rare(c, rareSending, "case", "file")
	return c
}

// contentFlags are those that first reports and later ones share.
func (a *app) contentFlags(c *cobra.Command, f *reportFlags) {
	fl := c.Flags()
	f.flags = fl
	fl.StringVar(&f.tlp, "tlp", "", a.t("`ラベル` red, amber+strict, amber, green, clear", "`label`: red, amber+strict, amber, green, clear"))
	fl.StringVar(&f.title, "title", "", a.t("`件名` (ラベルで守る内容は書かない)", "`title` (nothing that the label protects)"))
	fl.StringVarP(&f.message, "message", "m", "", a.t("概要の`文`", "the summary, one `sentence` or more"))
	fl.StringVar(&f.text, "text", "", a.t("概要の`ファイル` (UTF-8; - は標準入力)", "`file` with the summary (UTF-8; - for stdin)"))
	fl.StringVar(&f.technical, "technical", "", a.t("攻撃技術情報: 同業にも届く本文 (`文`または @ファイル)", "attack technique, which peers get too: `text` or @FILE"))
	fl.BoolVar(&f.notice, "notice", false, a.t("注意喚起・情報提供: 件名と概要も全員に届く", "a warning: title and summary go to all recipients"))
	fl.StringArrayVar(&f.to, "to", nil, a.t("宛先の`会員`、TLP:RED は 会員/人 (繰り返し可)", "recipient `MEMBER`, for TLP:RED MEMBER/PERSON (repeatable)"))
	fl.StringVar(&f.community, "community", "", a.t("TLP:GREEN のコミュニティ`ID` (港全体なら港のID)", "community `ID` for TLP:GREEN (the port's id for all)"))
	fl.StringVar(&f.stix, "stix", "", a.t("STIX 2.1 バンドルの`ファイル`", "`file` with a STIX 2.1 bundle"))
	fl.StringArrayVar(&f.attach, "attach", nil, a.t("添付`ファイル` (繰り返し可)", "`file` to attach (repeatable)"))
	fl.StringArrayVar(&f.events, "event", nil, a.t("事象の`類型` malware, intrusion, leak など (繰り返し可)", "`type` of event: malware, intrusion, leak, ... (repeatable)"))
	fl.StringVar(&f.cause, "cause", "", a.t("原因の`類型` intentional, accidental など", "`class` of cause: intentional, accidental, ..."))
	fl.StringVar(&f.impact, "impact", "", a.t("業務への`影響` none, degraded, stopped など", "`state` of the business: none, degraded, stopped, ..."))
	fl.StringVar(&f.reason, "reason", "", a.t("`理由` legal, serious, voluntary, consult, share", "`why`: legal, serious, voluntary, consult, share"))
	fl.BoolVar(&f.plan, "plan", false, a.t("出さずに、誰に何が届くかを表示", "publish nothing, show who would get what"))
	fl.DurationVar(&f.wait, "wait", callWait, a.t("ハブの受領を待つ`時間`", "`time` to wait for the hub's receipt"))
	a.rareFlags(c, f)
}

// The headings of rarely used flags.
var (
	rareHandling = Text{"取扱い:", "Handling:"}
	rareConsent  = Text{"同意 (指定しなければ「いいえ」):", "Consent (no unless given):"}
	rareContent  = Text{"内容:", "Content:"}
	rareSending  = Text{"出し方:", "Sending:"}
)

// rareFlags are for fewer reports; --help-all shows them.
func (a *app) rareFlags(c *cobra.Command, f *reportFlags) {
	fl := c.Flags()
	fl.StringArrayVar(&f.restrict, "restrict", nil, a.t("`制限` no-copy, no-export, no-distribution, chatham-house (繰り返し可)", "`rule`: no-copy, no-export, no-distribution, chatham-house (repeatable)"))
	fl.StringVar(&f.restrictText, "restrict-text", "", a.t("そのほかの取扱いの`文`", "another rule in `words`"))
	fl.StringVar(&f.expires, "expires", "", a.t("写しを消す`期限` 2026-12-31, '2026-12-31 17:00', 30d", "`time` by which copies are erased: 2026-12-31, '2026-12-31 17:00', 30d"))
	fl.StringVar(&f.secrecy, "secrecy", "", a.t("法令上の`守秘` none, council (協議会), contract (契約)", "`duty` of secrecy: none, council, contract"))
	fl.StringArrayVar(&f.onward, "onward", nil, a.t("転送の許可 `渡す者:受ける者` 会員か役割 (繰り返し可)", "let one pass it on, `BY:TO`, members or roles (repeatable)"))
	fl.StringArrayVar(&f.derivedFrom, "derived-from", nil, a.t("引用した報告の `ID`。ラベルと制限を引き継ぐ (繰り返し可)", "`ID` of a report that this quotes; its label and rules are kept (repeatable)"))
	a.rare(c, rareHandling, "restrict", "restrict-text", "expires", "secrecy", "onward", "derived-from")

	fl.BoolVar(&f.peerNamed, "peer-named", false, a.t("同業にも組織名を示す", "peers may see the name of the organisation"))
	fl.BoolVar(&f.peerDamage, "peer-damage", false, a.t("同業にも被害と対応を示す", "peers may see damage and response"))
	fl.BoolVar(&f.cabinetShare, "cabinet-share", false, a.t("国家サイバー統括室との共有", "may be shared with the National Cybersecurity Office"))
	fl.BoolVar(&f.expertShare, "expert-share", false, a.t("専門組織との共有", "may be shared with expert bodies"))
	a.rare(c, rareConsent, "peer-named", "peer-damage", "cabinet-share", "expert-share")

	fl.BoolVar(&f.incident, "incident", false, a.t("自組織の事案 (官署などの既定は注意喚起)", "an incident at the own organisation (offices send notices by default)"))
	fl.StringArrayVar(&f.systems, "system", nil, a.t("対象システム `種別[:製品[:版]]` tos, gate, ot_crane など (繰り返し可)", "attacked system `KIND[:PRODUCT[:VERSION]]`: tos, gate, ot_crane, ... (repeatable)"))
	fl.StringArrayVar(&f.laws, "law", nil, a.t("根拠`法令`の番号。方針にあるもの (繰り返し可)", "`law` that obliges you, as the policy names it (repeatable)"))
	fl.BoolVar(&f.designated, "designated", false, a.t("--system は特定重要電子計算機に当たる", "the systems named are designated computers by law"))
	fl.StringArrayVar(&f.attachTechnical, "attach-technical", nil, a.t("同業にも届く技術資料の`ファイル`。作成者名などを除いたもの (繰り返し可)", "technical `file` for peers too, without hidden data such as an author (repeatable)"))
	a.rare(c, rareContent, "attach-technical", "incident", "law", "system", "designated")
	a.rare(c, rareSending, "wait")
}

// report works out what the flags say. Nothing is sent and nothing is stored.
func (f *reportFlags) report(a *app) (*pb.Report, error) {
	r := &pb.Report{}
	if f.file != "" {
		raw, err := a.readInput("file", f.file, reportLimit)
		if err != nil {
			return nil, err
		}
		if err := protojson.Unmarshal(raw, r); err != nil {
			return nil, &failure{code: exitUsage, err: err,
				what: textf("--file %s を報告として読めません: %s", "cannot read --file %s as a report: %s", plain(f.file), plain(err.Error())),
				next: Text{"項目名は report.proto のとおりに書いてください", "name the fields as report.proto does"}}
		}
	}
	if f.wait < 0 {
		return nil, usage(Text{"--wait は 0 以上にしてください", "--wait must not be negative"}, Text{"例: --wait 5s", "for example: --wait 5s"})
	}
	if f.exercise {
		r.Lane = pb.Lane_LANE_EXERCISE
	} else if r.Lane == pb.Lane_LANE_UNSPECIFIED {
		r.Lane = pb.Lane_LANE_LIVE
	}
	return r, f.fill(a, r)
}

// fill sets what the flags say and leaves the rest of r as it is.
func (f *reportFlags) fill(a *app, r *pb.Report) error {
	if f.tlp != "" {
		label, legacy, err := tlp.Parse(f.tlp)
		if err != nil {
			return badInput(fmt.Errorf("--tlp: %w", err))
		}
		if legacy {
			a.talk(textf("%s は古い呼び名です。%s として扱います。", "%s is an old name; it is taken as %s.", plain(f.tlp), label))
		}
		r.Tlp = pb.TlpLabel(label)
	}
	if f.title != "" {
		r.Title = strings.TrimSpace(f.title)
	}
	if f.text != "" && f.message != "" {
		return usage(Text{"--text と -m は同時に使えません", "--text and -m cannot be used together"},
			Text{"文が短ければ -m、ファイルなら --text だけにしてください", "use -m for a sentence or --text for a file"})
	}
	if f.message != "" {
		r.Summary = f.message
	}
	if f.text != "" {
		text, err := a.readText("text", f.text)
		if err != nil {
			return err
		}
		r.Summary = text
	}
	if f.technical != "" {
		text, err := a.textOrFile(f.technical)
		if err != nil {
			return err
		}
		if r.AttackTechnical == nil {
			r.AttackTechnical = &pb.AttackTechnical{}
		}
		r.AttackTechnical.Text = text
	}
	if len(f.to) > 0 {
		to, err := parseRecipients("to", f.to)
		if err != nil {
			return err
		}
		r.Recipients = to
	}
	if f.community != "" {
		if err := checkID("--community", f.community); err != nil {
			return err
		}
		r.CommunityId = f.community
	}
	if err := f.fillFacts(r); err != nil {
		return err
	}
	if err := f.fillHandling(r); err != nil {
		return err
	}
	return f.findParts(a, r)
}

// textOrFile is a text that a flag gives, or that of the file after @.
func (a *app) textOrFile(s string) (string, error) {
	if path, ok := strings.CutPrefix(s, "@"); ok {
		return a.readText("technical", path)
	}
	return s, nil
}

// reasons are the reasons of a report as they are typed.
var reasons = map[string]pb.Reason{
	"legal": pb.Reason_REASON_LEGAL_DUTY, "serious": pb.Reason_REASON_SERIOUS_IMPACT, "voluntary": pb.Reason_REASON_VOLUNTARY,
	"consult": pb.Reason_REASON_UNSURE_CONSULT, "share": pb.Reason_REASON_SHARING,
}

func (f *reportFlags) fillFacts(r *pb.Report) error {
	switch {
	case f.notice && f.incident:
		return usage(Text{"--notice と --incident は同時に使えません", "--notice and --incident cannot be used together"},
			Text{"自組織に起きたことなら --incident、他への注意喚起なら --notice です", "--incident is what happened to you, --notice warns others"})
	case f.notice:
		r.Kind = pb.Kind_KIND_NOTICE
	case f.incident:
		r.Kind = pb.Kind_KIND_INCIDENT
	}
	if f.reason != "" {
		reason, ok := reasons[strings.ToLower(f.reason)]
		if !ok {
			return usage(textf("--reason の値 %q は使えません", "--reason cannot be %q", cut(plain(f.reason), 60)),
				Text{"使える値: legal (法令), serious (重大な影響), voluntary (自主的), consult (相談), share (共有のみ)", "use one of: legal, serious, voluntary, consult, share"})
		}
		r.Reason = reason
	}
	if len(f.laws) > 0 {
		r.LegalBasis = nil
	}
	for _, law := range f.laws {
		r.LegalBasis = append(r.LegalBasis, &pb.LegalBasis{LawId: strings.TrimSpace(law)})
	}
	if err := f.fillSystems(r); err != nil {
		return err
	}
	if len(f.events) > 0 {
		r.Event = &pb.Event{Certainty: pb.Certainty_CERTAINTY_SUSPECTED}
		for _, s := range f.events {
			event, err := parseChoice[pb.EventType]("event", s)
			if err != nil {
				return err
			}
			if event == pb.EventType_EVENT_TYPE_UNKNOWN {
				r.Event.Certainty = pb.Certainty_CERTAINTY_UNKNOWN
			}
			if !slices.Contains(r.Event.Types, event) {
				r.Event.Types = append(r.Event.Types, event)
			}
		}
	}
	if f.cause != "" {
		class, err := parseChoice[pb.CauseClass]("cause", f.cause)
		if err != nil {
			return err
		}
		r.Cause = &pb.Cause{Class: class, Certainty: certainty(class == pb.CauseClass_CAUSE_CLASS_UNKNOWN)}
	}
	if f.impact != "" {
		business, err := parseChoice[pb.BusinessImpact]("impact", f.impact)
		if err != nil {
			return err
		}
		r.Impact = &pb.Impact{Business: business, Certainty: certainty(business == pb.BusinessImpact_BUSINESS_IMPACT_UNKNOWN)}
	}
	return nil
}

// fillSystems reads KIND[:PRODUCT[:VERSION]].
func (f *reportFlags) fillSystems(r *pb.Report) error {
	if f.designated && len(f.systems) == 0 {
		return usage(Text{"--designated には --system が要ります", "--designated needs --system"}, Text{"例: --system tos:製品名 --designated", "for example: --system tos:PRODUCT --designated"})
	}
	if len(f.systems) > 0 {
		r.AffectedSystems = nil
	}
	for _, s := range f.systems {
		parts := append(strings.SplitN(s, ":", 3), "", "")
		kind, err := parseChoice[pb.SystemKind]("system", parts[0])
		if err != nil {
			return err
		}
		r.AffectedSystems = append(r.AffectedSystems, &pb.AffectedSystem{
			Kind: kind, Product: strings.TrimSpace(parts[1]), Version: strings.TrimSpace(parts[2]),
			IsDesignatedComputer: f.designated, Certainty: pb.Certainty_CERTAINTY_SUSPECTED,
		})
	}
	return nil
}

// certainty is that of a fact given by a flag: a person has said it, nobody has
// verified it.
func certainty(unknown bool) pb.Certainty {
	if unknown {
		return pb.Certainty_CERTAINTY_UNKNOWN
	}
	return pb.Certainty_CERTAINTY_SUSPECTED
}

// parseRecipients reads MEMBER and MEMBER/PERSON; the same one twice counts
// once.
func parseRecipients(flag string, list []string) ([]*pb.Recipient, error) {
	var out []*pb.Recipient
	seen := map[string]bool{}
	for _, item := range list {
		for one := range strings.SplitSeq(item, ",") {
			one = strings.TrimSpace(one)
			member, person, named := strings.Cut(one, "/")
			if !ca.ValidID(member) || named && !ca.ValidID(person) {
				return nil, usage(
					textf("--%s の宛先 %q を読めません", "cannot read the recipient --%s %q", flag, cut(plain(one), 80)),
					Text{"会員ID、または TLP:RED では 会員ID/人のID と書いてください。一覧: minato members", "write MEMBER, or MEMBER/PERSON for TLP:RED. See minato members"})
			}
			if !seen[one] {
				seen[one] = true
				out = append(out, &pb.Recipient{Member: member, Person: person})
			}
		}
	}
	return out, nil
}

func checkID(what, id string) error {
	if ca.ValidID(id) {
		return nil
	}
	return usage(textf("%s の値 %q は使えません", "%s cannot be %q", what, cut(plain(id), 80)),
		Text{"a-z, 0-9, ハイフンで 63 文字までにしてください", "use a-z, 0-9 and hyphen, at most 63 characters"})
}

// missing says which of the fields that a report cannot do without are there.
func (f *reportFlags) missing(r *pb.Report) []required {
	return []required{
		{"tlp", r.GetTlp() != pb.TlpLabel_TLP_LABEL_UNSPECIFIED},
		{"title", r.GetTitle() != ""},
		{"text", strings.TrimSpace(r.GetSummary()) != ""},
	}
}

// checkAddressing refuses, before anything is stored, a report whose label and
// recipients do not go together. The hub decides; this only spares a person
// without a connection a refusal that would come much later.
func checkAddressing(r *pb.Report) error {
	label := tlp.Label(r.GetTlp())
	if label.NeedsCommunity() && r.GetCommunityId() == "" {
		return rpc.Refuse(codes.FailedPrecondition, "GREEN_NEEDS_COMMUNITY", "community_id",
			"TLP:GREEN には共有範囲の指定が必要です (--community ID)。港全体なら港の ID を指定してください: minato status",
			"TLP:GREEN needs a community (--community ID). For the whole port give the port's id: minato status")
	}
	if label.NeedsRecipients() && len(r.GetRecipients()) == 0 {
		to := "--to MEMBER"
		if label.NeedsPersons() {
			to = "--to MEMBER/PERSON"
		}
		return rpc.Refuse(codes.FailedPrecondition, "RECIPIENTS_MISSING", "recipients",
			fmt.Sprintf("%s には宛先の指定が必要です (%s)。会員一覧: minato members", label, to),
			fmt.Sprintf("%s needs recipients (%s). See: minato members", label, to))
	}
	for _, to := range r.GetRecipients() {
		if label.NeedsPersons() && to.GetPerson() == "" {
			return rpc.Refuse(codes.FailedPrecondition, "RED_NEEDS_PERSONS", "recipients",
				fmt.Sprintf("TLP:RED は名指しした人だけに送ります。--to %s/人のID と指定してください。一覧: minato members", to.GetMember()),
				fmt.Sprintf("TLP:RED goes to named persons only. Write --to %s/PERSON. See: minato members", to.GetMember()))
		}
	}
	return nil
}

// publish brings a report to the node: asks for what is missing, stores its
// parts, publishes and says what became of it. prepare, which may be nil, fills
// in what only the node knows.
func (a *app) publish(ctx context.Context, f *reportFlags, r *pb.Report, prepare func(context.Context, pb.NodeServiceClient) error) error {
	return a.withNode(ctx, func(n pb.NodeServiceClient) error {
		if err := a.complete(ctx, f, r, n, prepare); err != nil {
			return err
		}
		if f.plan {
			return a.printPlanOf(ctx, n, r)
		}
		if err := a.confirmed(ctx, f, n, r); err != nil {
			return err
		}
		if err := f.storeParts(ctx, n); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, f.wait+callTime)
		defer cancel()
		answer, err := n.PublishReport(ctx, &pb.PublishReportRequest{Report: r, Wait: durationpb.New(f.wait)})
		if err != nil {
			return err
		}
		return a.published(answer.GetItem(), r.GetStage())
	})
}

// complete fills in what the flags left open. Calls have a time limit; a person
// has none.
func (a *app) complete(ctx context.Context, f *reportFlags, r *pb.Report, n pb.NodeServiceClient, prepare func(context.Context, pb.NodeServiceClient) error) error {
	limited, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if prepare != nil {
		if err := prepare(limited, n); err != nil {
			return err
		}
	}
	status, err := n.GetStatus(limited, &pb.GetStatusRequest{})
	if err != nil {
		return err
	}
	if err := a.need(f.missing(r)...); err != nil {
		if !a.interactive() {
			if f.holds(r) {
				return a.hold(limited, f, r, n)
			}
			return err
		}
		members, err := peers(limited, n)
		if err != nil {
			return err
		}
		kind := ownKind(members, status.GetMember())
		members = slices.DeleteFunc(members, func(m *pb.Member) bool { return m.GetId() == status.GetMember() })
		if err := a.fillIn(ctx, f, r, members, kind); err != nil {
			return err
		}
	}
	if f.filledBy && r.GetTlp() == pb.TlpLabel_TLP_LABEL_GREEN && r.GetCommunityId() == "" {
		// The form shows who would get it before anything is sent.
		r.CommunityId = status.GetPortId()
	}
	if err := wholeIDs(limited, n, r); err != nil {
		return err
	}
	return checkAddressing(r)
}

// wholeIDs turns the starts of ids that a person has typed into whole ones.
func wholeIDs(ctx context.Context, n pb.NodeServiceClient, r *pb.Report) error {
	for i, id := range r.GetDerivedFrom() {
		if len(id) == 32 {
			continue
		}
		found, err := n.GetReport(ctx, &pb.GetReportRequest{Report: id})
		if err != nil {
			return err
		}
		r.DerivedFrom[i] = reportOf(found)
	}
	return nil
}

// reportOf is the id of a report that was read.
func reportOf(answer *pb.GetReportResponse) string {
	return or(answer.GetReport().GetReportId(), or(answer.GetReceived().GetReport(), answer.GetPublished().GetReport()))
}

func (a *app) printPlanOf(ctx context.Context, n pb.NodeServiceClient, r *pb.Report) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	answer, err := n.PlanReport(ctx, &pb.NodeServicePlanReportRequest{Report: r})
	if err != nil {
		return err
	}
	if a.json {
		return a.emit(answer)
	}
	if err := a.say(a.chip(tlp.Label(r.GetTlp()).String()) + " " + a.titled(r.GetLane(), r.GetTitle())); err != nil {
		return err
	}
	if err := a.sayInForce(r.GetTlp(), answer.GetPlan()); err != nil {
		return err
	}
	if err := a.printPlan(answer.GetPlan(), ""); err != nil {
		return err
	}
	a.talk(Text{"まだ出していません。出すには --plan を外してください。", "Nothing was published. Leave --plan out to publish it."})
	return nil
}

// published says what became of a report, by print and by exit code.
func (a *app) published(item *pb.OutboxItem, stage pb.Stage) error {
	if a.json {
		if err := a.emitFull(item); err != nil {
			return err
		}
	}
	line := fmt.Sprintf("%s %s %s %s", shortID(item.GetReport()), a.number(item.GetSeq(), stage), a.chip(item.GetTlp()), a.titled(item.GetLane(), item.GetTitle()))
	switch item.GetState() {
	case pb.OutboxState_OUTBOX_STATE_ACCEPTED:
		return a.accepted(item, line)
	case pb.OutboxState_OUTBOX_STATE_REFUSED:
		return refused(item.GetRefusal())
	case pb.OutboxState_OUTBOX_STATE_QUEUED:
		return a.queued(item, line)
	}
	return &failure{code: exitFailed,
		what: textf("報告 %s の状態が分かりません", "the state of report %s is not known", shortID(item.GetReport())),
		next: Text{"minato outbox で確かめてください", "see minato outbox"}}
}

func (a *app) accepted(item *pb.OutboxItem, line string) error {
	if a.json {
		return nil
	}
	if err := a.say(a.t("受領  ", "receipt  ") + line); err != nil {
		return err
	}
	if err := a.sayText(textf("報告 %s  事案 %s  受付 %s", "report %s  case %s  accepted %s",
		plain(item.GetReport()), plain(item.GetCase()), a.moment(item.GetAcceptTime()))); err != nil {
		return err
	}
	if err := a.printPlan(item.GetPlan(), item.GetReport()); err != nil {
		return err
	}
	a.talk(textf("続報: minato report update %s -m '…'   届いたか: minato show %s", "follow up: minato report update %s -m '…'   who has it: minato show %s",
		shortID(item.GetCase()), shortID(item.GetReport())))
	return nil
}

func (a *app) queued(item *pb.OutboxItem, line string) error {
	if !a.json {
		if err := a.say(a.t("送信待ち  ", "queued  ") + line); err != nil {
			return err
		}
		if err := a.sayText(textf("報告 %s  事案 %s", "report %s  case %s", plain(item.GetReport()), plain(item.GetCase()))); err != nil {
			return err
		}
	}
	a.talk(Text{"この端末に保存しました。ハブにつながり次第、自動で送ります。このままで安全です。",
		"Stored on this machine. It is sent when the hub is reached; it is safe to leave."})
	if item.GetDelayReason() != "" {
		a.talk(textf("ハブに届かない理由: %s", "why the hub was not reached: %s", reasonText(item.GetDelayReason())))
	}
	return told(exitQueued)
}

// refused is the error of a report that the hub has refused, with every
// violation.
func refused(info *pb.RefusalInfo) error {
	refusal := &rpc.Refusal{Code: codes.Code(info.GetCode()), Reason: info.GetReason()}
	for _, v := range info.GetViolations() {
		refusal.Violations = append(refusal.Violations, rpc.Violation{
			Field: v.GetField(), Reason: v.GetReason(), Japanese: v.GetJapanese(), English: v.GetEnglish(),
		})
	}
	if len(refusal.Violations) == 0 {
		refusal.Violations = []rpc.Violation{{Reason: info.GetReason(),
			Japanese: "ハブが受け付けませんでした (" + info.GetReason() + ")", English: "the hub refused it (" + info.GetReason() + ")"}}
	}
	return refusal
}

var errNothingPublished = &failure{code: exitFailed,
	what: Text{"中止しました。何も出していません", "stopped; nothing was published"}, err: errors.New("aborted")}
