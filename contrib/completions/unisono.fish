# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_unisono_global_optspecs
    string join \n h/help V/version
end

function __fish_unisono_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_unisono_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_unisono_using_subcommand
    set -l cmd (__fish_unisono_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c unisono -n "__fish_unisono_needs_command" -s h -l help -d 'Print help'
complete -c unisono -n "__fish_unisono_needs_command" -s V -l version -d 'Print version'
complete -c unisono -n "__fish_unisono_needs_command" -f -a "serve" -d 'Run a room: whoever connects sees every line that anyone says'
complete -c unisono -n "__fish_unisono_needs_command" -f -a "connect" -d 'Enter a room: stdin to the room, the room to stdout'
complete -c unisono -n "__fish_unisono_needs_command" -f -a "admin" -d 'Ask a server on this machine who is there, remove somebody, or end it'
complete -c unisono -n "__fish_unisono_needs_command" -f -a "hash-password" -d 'Read a password from stdin, one line, and print its hash for --password-file'
complete -c unisono -n "__fish_unisono_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l listen -d 'Where to listen, HOST:PORT or unix:PATH; can be repeated [default: 127.0.0.1:8000, or nowhere with --tls-listen]' -r
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l unix-mode -d 'Who may connect to Unix sockets: the mode of their files' -r
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l tls-listen -d 'Where to listen within TLS, as --listen; can be repeated' -r
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l tls-cert -d 'The certificate, in PEM, and those between it and the root' -r -F
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l tls-key -d 'Its key, in PEM' -r -F
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l tls-client-ca -d 'Want a certificate of each client, by one of these in PEM: its name is the member\'s' -r -F
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l proxy-from -d 'Take a PROXY header, version 1 or 2, from these sources: CIDR,CIDR... [default: from nobody]' -r
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l lang -d 'The server\'s own language' -r -f -a "zh\t''
en\t''"
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l who -d 'What members are called until they take a name: their address, or guest-1, guest-2, ...' -r -f -a "address\t''
guest\t''"
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l line-max -d 'Longest line; a longer one is refused whole' -r
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l backlog -d 'How much of the room is kept for slow readers' -r
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l patience -d 'How long a reader a whole backlog behind may hold up the room before it misses lines; 0: not at all' -r
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l stall -d 'Close a connection that takes nothing for so long' -r
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l line-deadline -d 'How long a line may take from its first byte to its end' -r
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l max-connections -d 'Most connections at once [default: the limit of open files, less 32]' -r
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l max-per-ip -d 'Most at once from one IPv4 address or IPv6 /64 [default: no limit]' -r
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l flood -d 'How fast a stranger may speak, in lines and in bytes, before it is slowed; or `off`' -r
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l connect-rate -d 'How fast strangers may connect from one IPv4 address or IPv6 /64; or `off`' -r
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l announcements -d 'Most arrivals and departures of strangers told by name in a second; others are counted in one line; or `off`' -r
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l trusted -d 'Who is no stranger: CIDR,CIDR...; or `none`' -r
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l allow -d 'Let in nobody else: CIDR,CIDR... [default: everyone]' -r
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l deny -d 'Let in none of these, though they be allowed: CIDR,CIDR...' -r
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l motd -d 'Tell newcomers what is in this file, at most 4 KiB' -r -F
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l password-file -d 'Ask newcomers for a password, of which a hash is in this file: one by `unisono hash-password` a line' -r -F
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l admin -d 'Where administrators are answered, unix:PATH: root and the own user [default: nowhere]' -r -F
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l grace -d 'How long the flush at the end may take' -r
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l log-format -d 'How the log looks: lines for people, or an object of JSON a line' -r -f -a "text\t''
json\t''"
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l log-level -d 'What the log has: this and what is graver' -r -f -a "error\t''
warn\t''
info\t''
debug\t''"
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l metrics -d 'Show numbers to Prometheus, at `http://ADDR/metrics`, best on loopback [default: none]' -r
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l config -d 'A file that sets options, by their names: `line-max = "64KiB"`; SIGHUP reads it again' -r -F
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l plain -d 'Lines and nothing else: no commands and no names'
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l raw -d 'Pass on control characters and invalid UTF-8, for trusted feeds'
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l print-config -d 'Print the options in force as such a file, and end'
complete -c unisono -n "__fish_unisono_using_subcommand serve" -l check-config -d 'Check all options, and end: with exit code 0, or with 2 and each mistake in one line'
complete -c unisono -n "__fish_unisono_using_subcommand serve" -s h -l help -d 'Print help'
complete -c unisono -n "__fish_unisono_using_subcommand connect" -l ca -d 'What the server has to prove itself by, in PEM [default: what the system trusts]' -r -F
complete -c unisono -n "__fish_unisono_using_subcommand connect" -l cert -d 'The client\'s own certificate, in PEM, if the server wants one' -r -F
complete -c unisono -n "__fish_unisono_using_subcommand connect" -l key -d 'Its key, in PEM' -r -F
complete -c unisono -n "__fish_unisono_using_subcommand connect" -l server-name -d 'What the server is called in its certificate [default: its host]' -r
complete -c unisono -n "__fish_unisono_using_subcommand connect" -l name -d 'Take this name before anything is said' -r
complete -c unisono -n "__fish_unisono_using_subcommand connect" -l tls -d 'Within TLS'
complete -c unisono -n "__fish_unisono_using_subcommand connect" -l verbatim -d 'Say every line as it is: no line is a command, as a leading / is doubled'
complete -c unisono -n "__fish_unisono_using_subcommand connect" -l receive-only -d 'Leave stdin alone, only print'
complete -c unisono -n "__fish_unisono_using_subcommand connect" -s h -l help -d 'Print help'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and not __fish_seen_subcommand_from who kick ban unban bans notice drain stats help" -l socket -d 'The socket of the server, as of its --admin' -r -F
complete -c unisono -n "__fish_unisono_using_subcommand admin; and not __fish_seen_subcommand_from who kick ban unban bans notice drain stats help" -s h -l help -d 'Print help'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and not __fish_seen_subcommand_from who kick ban unban bans notice drain stats help" -f -a "who" -d 'Show who is there, and from where'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and not __fish_seen_subcommand_from who kick ban unban bans notice drain stats help" -f -a "kick" -d 'End a member\'s connection'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and not __fish_seen_subcommand_from who kick ban unban bans notice drain stats help" -f -a "ban" -d 'Let in nobody from there, and end who is there from there'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and not __fish_seen_subcommand_from who kick ban unban bans notice drain stats help" -f -a "unban" -d 'Lift a ban'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and not __fish_seen_subcommand_from who kick ban unban bans notice drain stats help" -f -a "bans" -d 'Show the bans, and how long each lasts still'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and not __fish_seen_subcommand_from who kick ban unban bans notice drain stats help" -f -a "notice" -d 'Say something to all'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and not __fish_seen_subcommand_from who kick ban unban bans notice drain stats help" -f -a "drain" -d 'Let in nobody more, and end when all have left'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and not __fish_seen_subcommand_from who kick ban unban bans notice drain stats help" -f -a "stats" -d 'Show numbers of the server'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and not __fish_seen_subcommand_from who kick ban unban bans notice drain stats help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and __fish_seen_subcommand_from who" -s h -l help -d 'Print help'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and __fish_seen_subcommand_from kick" -s h -l help -d 'Print help'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and __fish_seen_subcommand_from ban" -l for -d 'How long [default: until it is lifted or the server ends]' -r
complete -c unisono -n "__fish_unisono_using_subcommand admin; and __fish_seen_subcommand_from ban" -s h -l help -d 'Print help'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and __fish_seen_subcommand_from unban" -s h -l help -d 'Print help'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and __fish_seen_subcommand_from bans" -s h -l help -d 'Print help'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and __fish_seen_subcommand_from notice" -s h -l help -d 'Print help'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and __fish_seen_subcommand_from drain" -l for -d 'How long it may take at most [default: as long as it takes]' -r
complete -c unisono -n "__fish_unisono_using_subcommand admin; and __fish_seen_subcommand_from drain" -s h -l help -d 'Print help'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and __fish_seen_subcommand_from stats" -s h -l help -d 'Print help'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and __fish_seen_subcommand_from help" -f -a "who" -d 'Show who is there, and from where'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and __fish_seen_subcommand_from help" -f -a "kick" -d 'End a member\'s connection'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and __fish_seen_subcommand_from help" -f -a "ban" -d 'Let in nobody from there, and end who is there from there'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and __fish_seen_subcommand_from help" -f -a "unban" -d 'Lift a ban'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and __fish_seen_subcommand_from help" -f -a "bans" -d 'Show the bans, and how long each lasts still'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and __fish_seen_subcommand_from help" -f -a "notice" -d 'Say something to all'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and __fish_seen_subcommand_from help" -f -a "drain" -d 'Let in nobody more, and end when all have left'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and __fish_seen_subcommand_from help" -f -a "stats" -d 'Show numbers of the server'
complete -c unisono -n "__fish_unisono_using_subcommand admin; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c unisono -n "__fish_unisono_using_subcommand hash-password" -s h -l help -d 'Print help'
complete -c unisono -n "__fish_unisono_using_subcommand help; and not __fish_seen_subcommand_from serve connect admin hash-password help" -f -a "serve" -d 'Run a room: whoever connects sees every line that anyone says'
complete -c unisono -n "__fish_unisono_using_subcommand help; and not __fish_seen_subcommand_from serve connect admin hash-password help" -f -a "connect" -d 'Enter a room: stdin to the room, the room to stdout'
complete -c unisono -n "__fish_unisono_using_subcommand help; and not __fish_seen_subcommand_from serve connect admin hash-password help" -f -a "admin" -d 'Ask a server on this machine who is there, remove somebody, or end it'
complete -c unisono -n "__fish_unisono_using_subcommand help; and not __fish_seen_subcommand_from serve connect admin hash-password help" -f -a "hash-password" -d 'Read a password from stdin, one line, and print its hash for --password-file'
complete -c unisono -n "__fish_unisono_using_subcommand help; and not __fish_seen_subcommand_from serve connect admin hash-password help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c unisono -n "__fish_unisono_using_subcommand help; and __fish_seen_subcommand_from admin" -f -a "who" -d 'Show who is there, and from where'
complete -c unisono -n "__fish_unisono_using_subcommand help; and __fish_seen_subcommand_from admin" -f -a "kick" -d 'End a member\'s connection'
complete -c unisono -n "__fish_unisono_using_subcommand help; and __fish_seen_subcommand_from admin" -f -a "ban" -d 'Let in nobody from there, and end who is there from there'
complete -c unisono -n "__fish_unisono_using_subcommand help; and __fish_seen_subcommand_from admin" -f -a "unban" -d 'Lift a ban'
complete -c unisono -n "__fish_unisono_using_subcommand help; and __fish_seen_subcommand_from admin" -f -a "bans" -d 'Show the bans, and how long each lasts still'
complete -c unisono -n "__fish_unisono_using_subcommand help; and __fish_seen_subcommand_from admin" -f -a "notice" -d 'Say something to all'
complete -c unisono -n "__fish_unisono_using_subcommand help; and __fish_seen_subcommand_from admin" -f -a "drain" -d 'Let in nobody more, and end when all have left'
complete -c unisono -n "__fish_unisono_using_subcommand help; and __fish_seen_subcommand_from admin" -f -a "stats" -d 'Show numbers of the server'
