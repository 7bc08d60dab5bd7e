SELECT sum(tasks) AS queued FROM tally WHERE state = 'queued';
