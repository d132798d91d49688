"""Work that several processes share."""
import os
import pickle
import traceback


def in_parts(jobs, work):
    """What work(part) returns for each part below jobs, each done by a process of its own; what is returned must be fit for pickle. A
    part that fails says why, and then this does."""
    pipes = []
    for part in range(jobs):
        ours, theirs = os.pipe()
        if not os.fork():
            os.close(ours)
            code = 1
            try:
                with open(theirs, "wb") as file:
                    pickle.dump(work(part), file)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(theirs)
        pipes.append(ours)
    results = []
    for ours in pipes:
        with open(ours, "rb") as file:
            results.append(pickle.load(file))
        os.wait()
    return results
