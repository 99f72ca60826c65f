package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "minato.example/proto/minato/v1"
)

func (a *app) inboxCommand() *cobra.Command {
	var (
		wait             time.Duration
		follow, exercise bool
		query            string
	)
	c := a.command("inbox [--wait DUR] [--follow] [--search QUERY]", about{
		short: Text{"届いた報告を古い順に表示します", "List what has arrived, oldest first"},
		long: Text{"--wait は何もないとき最初の一件を待ちます。届かなければ終了コード 1 です。",
			"--wait waits for the first report when there is none; exit code 1 when none comes."},
		example: "minato inbox --search '203[.]0[.]113[.]7'\nminato inbox --follow --json",
	}, a.exactly(), func(c *cobra.Command, _ []string) error {
		lane := pb.Lane_LANE_LIVE
		if exercise {
			lane = pb.Lane_LANE_EXERCISE
		}
		switch searching := c.Flags().Changed("search"); {
		case wait < 0:
			return usage(Text{"--wait は 0 以上にしてください", "--wait must not be negative"}, Text{"例: --wait 30s", "for example: --wait 30s"})
		case searching && (follow || wait > 0):
			return usage(Text{"--search は --wait, --follow と同時に使えません", "--search cannot be used with --wait or --follow"},
				Text{"どちらかを外してください", "leave one out"})
		case searching && query == "":
			return usage(Text{"--search の語がありません", "--search needs a word"}, Text{"例: --search 名古屋", "for example: --search crane"})
		case searching:
			return a.withNode(c.Context(), func(n pb.NodeServiceClient) error { return a.search(c.Context(), n, lane, query) })
		}
		return a.withNode(c.Context(), func(n pb.NodeServiceClient) error {
			return a.watch(c.Context(), n, &pb.WatchInboxRequest{Lane: lane, Wait: durationpb.New(wait), Follow: follow})
		})
	})
	f := c.Flags()
	f.DurationVar(&wait, "wait", 0, a.t("何もないとき待つ`時間`", "`time` to wait when there is nothing"))
	f.BoolVar(&follow, "follow", false, a.t("届くたびに表示し続ける", "go on as reports arrive"))
	f.BoolVar(&exercise, "exercise", false, a.t("訓練の受信箱", "the inbox of exercises"))
	f.StringVar(&query, "search", "", a.t("`語`または指標 (IP, ドメイン, ハッシュ; 無害化した形も可)", "`words` or an indicator, defanged or not"))
	return c
}

// inboxList is the list that items of the inbox go into.
func (a *app) inboxList() *list {
	return a.list("ID", a.t("報", "no."), "TLP", a.t("受付", "accepted"), a.t("情報連絡元", "source"), a.t("件名", "title"))
}

func (a *app) addInbox(l *list, item *pb.InboxItem) error {
	if a.json {
		return a.emitInbox(item)
	}
	return l.add(shortID(item.GetReport()), a.number(item.GetSeq(), item.GetStage()), a.chip(item.GetTlp()),
		a.moment(item.GetAcceptTime()), a.sourceOf(item, a.t("発信元なし", "unnamed")), a.inboxTitle(item))
}

// inboxTitle is the title of an item behind what binds its reader, so that a
// long title cannot push it out of sight.
func (a *app) inboxTitle(item *pb.InboxItem) string {
	var marks []string
	if bound := a.bound(item.GetRestrictions(), item.GetSecrecyRegime()); bound != "" {
		marks = append(marks, bound)
	}
	if by := item.GetForwardedBy(); by != "" {
		marks = append(marks, fmt.Sprintf(a.t("%s が転送", "forwarded by %s"), plain(by)))
	}
	if item.GetHubSigned() {
		marks = append(marks, a.t("ハブが作った写し", "copy by the hub"))
	}
	if item.GetSourceUnlisted() {
		marks = append(marks, a.t("名簿にない発信元", "source not in the directory"))
	}
	if len(item.GetTasks()) > 0 {
		var rules []string
		for _, s := range item.GetTasks() {
			rules = append(rules, plain(s.GetGround().GetRule()))
		}
		marks = append(marks, a.t("次の仕事 ", "to do ")+strings.Join(rules, " "))
	}
	title := a.titleOf(item, item.GetTitle())
	if item.GetSealed() {
		title = a.sealedFor(item)
	}
	if len(marks) > 0 {
		title = "[" + strings.Join(marks, ", ") + "] " + title
	}
	return a.titled(item.GetLane(), title)
}

func (a *app) watch(ctx context.Context, n pb.NodeServiceClient, req *pb.WatchInboxRequest) error {
	stream, err := n.WatchInbox(ctx, req)
	if err != nil {
		return err
	}
	l := a.inboxList()
	l.stream = req.GetFollow()
	shown := 0
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if ended(ctx, err) {
				break // Ctrl-C is how following ends
			}
			return err
		}
		if err := a.addInbox(l, answer.GetItem()); err != nil {
			return err
		}
		shown++
	}
	if err := l.end(); err != nil {
		return err
	}
	if shown == 0 && !req.GetFollow() {
		if wait := req.GetWait().AsDuration(); wait > 0 {
			a.talk(textf("%s 待ちましたが、何も届きませんでした", "nothing arrived within %s", wait))
			return told(exitFailed)
		}
		a.talk(Text{"受信箱は空です", "the inbox is empty"})
	}
	return nil
}

func (a *app) search(ctx context.Context, n pb.NodeServiceClient, lane pb.Lane, query string) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	l := a.inboxList()
	shown := 0
	for req := (&pb.SearchInboxRequest{Query: query, Lane: lane, PageSize: 500}); ; {
		page, err := n.SearchInbox(ctx, req)
		if err != nil {
			return err
		}
		for _, item := range page.GetItems() {
			if err := a.addInbox(l, item); err != nil {
				return err
			}
			shown++
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if shown == 0 {
		a.talk(textf("%q に当たる報告はありません", "no report matches %q", cut(plain(query), 60)))
	}
	return l.end()
}
