package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"charm.land/huh/v2"

	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// ownKind is the kind that a member usually reports, as the node would fill it:
// offices warn, operators have incidents.
func ownKind(members []*pb.Member, own string) pb.Kind {
	for _, m := range members {
		if m.GetId() != own {
			continue
		}
		switch m.GetRole() {
		case pb.Role_ROLE_OPERATOR, pb.Role_ROLE_PORT_COMPANY, pb.Role_ROLE_USERS:
			return pb.Kind_KIND_INCIDENT
		}
		return pb.Kind_KIND_NOTICE
	}
	return pb.Kind_KIND_INCIDENT
}

// fillIn asks a person for what a report lacks, with the other members as
// possible recipients. It runs on a terminal only. kind is the one to offer
// first.
func (a *app) fillIn(ctx context.Context, f *reportFlags, r *pb.Report, members []*pb.Member, kind pb.Kind) error {
	label := tlp.Label(r.GetTlp())
	if !label.Valid() {
		if err := a.askForm(ctx, huh.NewGroup(a.askLabel(&label))); err != nil {
			return err
		}
		r.Tlp = pb.TlpLabel(label)
	}
	var fields []huh.Field
	var to []string
	if label.NeedsRecipients() && len(r.GetRecipients()) == 0 {
		options := a.recipientOptions(members, label)
		if len(options) == 0 {
			return usage(
				textf("%s で選べる宛先がありません", "there is nobody to address with %s", label),
				Text{"会員と名指し先の一覧: minato members", "see minato members for members and persons"})
		}
		fields = append(fields, huh.NewMultiSelect[string]().
			Title(a.t("宛先 (スペースで選び、Enter で次へ)", "Recipients (space selects, enter goes on)")).
			Options(options...).Value(&to).Height(min(len(options)+2, 12)).
			Validate(func(chosen []string) error {
				if len(chosen) == 0 {
					return errors.New(a.t("一つ以上選んでください", "select at least one"))
				}
				return nil
			}))
	}
	askedKind := r.GetKind() == pb.Kind_KIND_UNSPECIFIED
	if askedKind {
		fields = append(fields, huh.NewSelect[pb.Kind]().
			Title(a.t("何の報告ですか", "What is it?")).
			Options(
				huh.NewOption(a.t("自組織の事案  件名と概要は、官署などにだけ届きます", "An incident of ours: title and summary go to authorities only"), pb.Kind_KIND_INCIDENT),
				huh.NewOption(a.t("注意喚起・情報提供  件名と概要は、宛先の全員に届きます", "A notice: title and summary go to all recipients"), pb.Kind_KIND_NOTICE),
			).Value(&kind))
	}
	if r.GetTitle() == "" {
		fields = append(fields, huh.NewInput().
			Title(a.t("件名 (ラベルで守る内容は書かない)", "Title (nothing that the label protects)")).
			Value(&r.Title).Validate(a.filled(300)))
	}
	if strings.TrimSpace(r.GetSummary()) == "" {
		fields = append(fields, huh.NewText().
			Title(a.t("何が起きましたか (断片でかまいません)", "What happened? (a fragment will do)")).
			Value(&r.Summary).CharLimit(4000).Validate(a.filled(textLimit)))
	}
	technical := ""
	if r.GetAttackTechnical() == nil {
		fields = append(fields, huh.NewText().
			Title(a.t("攻撃技術情報 (同業にも届きます。自組織の名は書かない。なければ空)", "Attack technique (peers get it; without your names; may be empty)")).
			Value(&technical).CharLimit(4000))
	}
	if len(fields) > 0 {
		if err := a.askForm(ctx, huh.NewGroup(fields...)); err != nil {
			return err
		}
	}
	if len(to) > 0 {
		recipients, err := parseRecipients("to", to)
		if err != nil {
			return err
		}
		r.Recipients = recipients
	}
	r.Title = strings.TrimSpace(r.Title)
	if askedKind {
		r.Kind = kind
	}
	if technical = strings.TrimSpace(technical); technical != "" {
		r.AttackTechnical = &pb.AttackTechnical{Text: technical}
	}
	f.filledBy = true
	return nil
}

func (a *app) askLabel(label *tlp.Label) huh.Field {
	var options []huh.Option[tlp.Label]
	*label = tlp.Amber
	for _, l := range []tlp.Label{tlp.Red, tlp.AmberStrict, tlp.Amber, tlp.Green, tlp.Clear} {
		ja, en := l.Meaning()
		options = append(options, huh.NewOption(fmt.Sprintf("%-16s %s", l, a.t(ja, en)), l))
	}
	return huh.NewSelect[tlp.Label]().Title(a.t("共有範囲 (矢印で選び、Enter で次へ)", "Who may see it? (arrows select, enter goes on)")).
		Options(options...).Value(label)
}

// recipientOptions are the members that a report can be addressed to; for
// TLP:RED the persons whom they name.
func (a *app) recipientOptions(members []*pb.Member, label tlp.Label) []huh.Option[string] {
	var options []huh.Option[string]
	for _, m := range members {
		if m.GetState() == pb.MemberState_MEMBER_STATE_REVOKED {
			continue
		}
		if !label.NeedsPersons() {
			options = append(options, huh.NewOption(fmt.Sprintf("%s  %s (%s)", plain(m.GetId()), plain(m.GetName()), word(m.GetRole()).in(a.lang)), m.GetId()))
			continue
		}
		for _, p := range m.GetProfile().GetPersons() {
			key := m.GetId() + "/" + p.GetId()
			options = append(options, huh.NewOption(fmt.Sprintf("%s  %s %s %s", plain(key), plain(m.GetName()), plain(p.GetTitle()), plain(p.GetName())), key))
		}
	}
	return options
}

// filled demands text of at most max bytes.
func (a *app) filled(max int) func(string) error {
	return func(s string) error {
		switch {
		case strings.TrimSpace(s) == "":
			return errors.New(a.t("入力してください", "write something"))
		case len(s) > max:
			return fmt.Errorf(a.t("%d 文字は長すぎます", "%d characters are too many"), utf8.RuneCountInString(s))
		}
		return nil
	}
}

// confirm shows who would get the report and asks once. Without the hub there
// is no plan to show; the report would then wait on this machine.
func (a *app) confirm(ctx context.Context, n pb.NodeServiceClient, r *pb.Report) error {
	planCtx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	answer, err := n.PlanReport(planCtx, &pb.NodeServicePlanReportRequest{Report: r})
	switch {
	case err == nil:
		if err := errors.Join(a.sayInForce(r.GetTlp(), answer.GetPlan()), a.printPlan(answer.GetPlan(), "")); err != nil {
			return err
		}
	case exitCode(err) == exitFailed:
		a.talk(textf("ハブに届かないため、届く相手を確かめられません: %s", "the hub was not reached, so it is not known who would get it: %s", plain(textOf(err).in(a.lang))))
	default:
		return err
	}
	yes := false
	err = a.askForm(ctx, huh.NewGroup(huh.NewConfirm().
		Title(a.t("この報告を出しますか", "Publish this report?")).
		Affirmative(a.t("出す", "Publish")).Negative(a.t("やめる", "Stop")).Value(&yes)))
	if err != nil {
		return err
	}
	if !yes {
		return errNothingPublished
	}
	return nil
}

// askForm runs a form on stdin and stderr, so that stdout stays for results.
func (a *app) askForm(ctx context.Context, groups ...*huh.Group) error {
	form := huh.NewForm(groups...).WithInput(a.in).WithOutput(a.err).WithShowHelp(false).
		WithAccessible(a.env("ACCESSIBLE") != "")
	err := form.RunWithContext(ctx)
	if errors.Is(err, huh.ErrUserAborted) || ctx.Err() != nil {
		return errNothingPublished
	}
	return err
}
