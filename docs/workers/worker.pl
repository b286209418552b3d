#!/usr/bin/env perl
# A worker for graflow-sidecar in Perl, with nothing but what perl brings along.
#
#   sidecar run -- perl docs/workers/worker.pl
#   sidecar worker test -- perl docs/workers/worker.pl
#
# It counts words, of a text or of a file, and waits, one task at a time:
#
#   {"task_id": "words_1", "session_id": "s", "params": {"text": "to be or not to be"}}
#   {"task_id": "wait_1", "session_id": "s", "params": {"seconds": 2}}
#
# A task runs in a forked child, which writes its result into a pipe; so the
# parent never stops listening. The rules (P1, P2 …) are those of
# protocol/PROTOCOL.md.
use strict;
use warnings;
use Errno qw(EINTR);
use IO::Select;
use JSON::PP;
use POSIX ();

my $json = JSON::PP->new->utf8->canonical->max_depth(1000);
my %kinds = (
    words => sub {
        my ($params) = @_;
        my $text = $params->{text};
        if (!defined $text) {
            my $path = $params->{path} // die "params.text or params.path is wanted\n";
            open my $file, '<:encoding(UTF-8)', $path
                or die { message => "$path: $!", retryable => $!{ENOENT} ? JSON::PP::true : JSON::PP::false };
            $text = do { local $/; <$file> };
        }
        return { words => scalar(() = $text =~ /\S+/g) };
    },
    wait => sub {
        my ($params) = @_;
        my $seconds = $params->{seconds} // 1;
        select undef, undef, undef, $seconds;
        return { waited => $seconds + 0 };
    },
);

open my $out, '>&', \*STDOUT or die $!;   # stdout belongs to the protocol:
open STDOUT, '>&', \*STDERR or die $!;    # prints are log lines (P14)
$_->autoflush for $out, \*STDOUT;
my ($limit, $draining, $stopping, @queue, $running) = (16 << 20, 0, 0);

sub send_line { print {$out} '{"jsonrpc":"2.0",', @_, "}\n" }    # the id comes first (P11)
sub fail { send_line(qq("id":$_[0],"error":{"code":$_[1],"message":"$_[2]"})) }
sub failed {
    my $error = ref $_[0] ? $_[0] : { message => "$_[0]" =~ s/\n\z//r };
    return { status => 'failed', error => $error };
}

sub start {    # the next task, or leave if that is wanted
    exit 0 if $stopping && !$running && !@queue;    # stdin is still open (P37)
    return if $running || !@queue;
    my ($id, $record) = @{ shift @queue };
    pipe my $reader, my $writer or die $!;
    my $pid = fork // die $!;
    if ($pid == 0) {
        $SIG{$_} = 'IGNORE' for qw(TERM INT);    # a stop of the whole group does not cut it short (P40)
        close $out;
        open STDIN, '<', '/dev/null';
        my $kind = ($record->{task_id} // '') =~ s/_.*//sr;
        my $result = eval {
            my $do = $kinds{$kind} // die "unknown task: this worker does words and wait\n";
            { status => 'succeeded', value => $do->($record->{params} // {}) };
        } // failed($@);
        print {$writer} $json->encode($result);
        close $writer;
        POSIX::_exit(0);
    }
    $running = { id => $id, pid => $pid, pipe => $reader, result => '' };
}

sub ended {    # the running task's pipe has ended
    waitpid $running->{pid}, 0;
    my $id = $running->{id};
    if ($running->{cancelled}) { fail($id, -32800, 'cancelled') }
    else { send_line(qq("id":$id,"result":), $running->{result} || $json->encode(failed('the task died'))) }
    undef $running;
    start();
}

sub hand_back { fail($_->[0], -32001, 'not started: the worker is stopping') for splice @queue }

sub drain {    # a signal of our own: finish what runs, and wait for shutdown (P40)
    send_line('"method":"$/draining"') unless $draining++;
    hand_back();
}

sub take {
    my ($line) = @_;
    my $m = eval { $json->decode($line) };
    if (!$m) {    # half a surrogate pair, say. The first bytes tell the id (P11)
        my ($id) = substr($line, 0, 256) =~ /"id":(\d+),"method":"task\/run"/ or return;
        return send_line(qq("id":$id,"result":), $json->encode(failed("the record cannot be read: $@")));
    }
    my ($id, $method, $p) = ($m->{id}, $m->{method} // '', $m->{params});
    if ($method eq 'initialize') {
        return fail($id, -32602, 'this worker speaks version 1') if $p->{protocolVersion} < 1;
        $limit = $p->{limits}{maxMessageBytes};
        send_line(qq("id":$id,"result":{"protocolVersion":1,"worker":{"name":"words-in-perl","version":"1.0"},),
            '"concurrency":1,"capabilities":{}}');
    }
    elsif ($method eq 'ping') { send_line(qq("id":$id,"result":{})) }
    elsif ($method eq 'task/run') {
        return fail($id, -32001, 'not started: the worker is stopping') if $draining || $stopping;
        push @queue, [ $id, $p->{record} ];
        start();
    }
    elsif ($method eq '$/cancelRequest') {
        if ($running && $running->{id} == $p->{id}) {
            $running->{cancelled} = kill KILL => $running->{pid};
        }
        fail($_->[0], -32800, 'cancelled') for grep { $_->[0] == $p->{id} } @queue;
        @queue = grep { $_->[0] != $p->{id} } @queue;
    }
    elsif ($method eq 'shutdown') { $stopping = 1; hand_back(); start() }
    elsif ($method ne '' && defined $id) { fail($id, -32601, 'no such method') }
}

$SIG{TERM} = $SIG{INT} = \&drain;
my ($buffer, $skipping) = ('', 0);
while (1) {
    # A signal that comes just before the wait does not end it: hence the second.
    for my $ready (IO::Select->new(\*STDIN, $running ? $running->{pipe} : ())->can_read(1)) {
        if ($ready != \*STDIN) {
            sysread($ready, $running->{result}, 1 << 16, length $running->{result}) or ended();
            next;
        }
        my $n = sysread STDIN, $buffer, 1 << 16, length $buffer;
        if (!$n) {
            next if !defined $n && $! == EINTR;
            kill KILL => $running->{pid} if $running;
            exit 1;    # the sidecar is gone (P38)
        }
        while ($buffer =~ s/\A([^\n]*?)\r?\n//) {
            my $line = $1;
            take($line) unless $skipping || length $line > $limit;    # P4
            $skipping = 0;
        }
        if (length $buffer > $limit + 1) { $buffer = ''; $skipping = 1 }
    }
}
